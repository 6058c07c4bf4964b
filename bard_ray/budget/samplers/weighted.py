"""Budgets with given shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bard_ray.budget.draw import SAMPLERS, Draw, one_of
from bard_ray.plugins import require_within

# Weight of a budget, given the largest one that is allowed.
_PRIORS: dict[str, Callable[[int, int], float]] = {
    "uniform": lambda _budget, _largest: 1.0,
    "linear": lambda budget, _largest: float(budget),
    "last": lambda budget, largest: float(budget == largest),
}


@SAMPLERS.register("weighted")
@dataclass(frozen=True, slots=True)
class WeightedSampler:
    """One budget a group, p(b_i) proportional to w_i.

    Attributes:
        weights: w_i of each budget of `budget.train`, ascending; empty: the prior gives them.
        prior: `uniform` (w = 1), `linear` (w = b), `last` (the largest budget that the schedule
            allows, and no other). Default linear, ours.

    Source: the three budget priors of BRPO, arXiv 2505.13438; the weights are ours.
    """

    weights: tuple[float, ...] = ()
    prior: str = "linear"

    def __post_init__(self) -> None:
        if self.prior not in _PRIORS:
            msg = f"prior must be one of {', '.join(_PRIORS)}, not {self.prior!r}"
            raise ValueError(msg)
        for weight in self.weights:
            require_within("each of weights", weight, 0)

    def budgets(self, draw: Draw, generator: np.random.Generator) -> tuple[int, ...]:
        """G times the same budget.

        Raises:
            ValueError: there are weights, but not one for each budget taught, or none above 0 for a
                budget that the schedule allows.
        """
        weights = self._weights_of(draw)
        return (one_of(draw.allowed, weights, generator),) * draw.group_size

    def _weights_of(self, draw: Draw) -> list[float]:
        if not self.weights:
            return [_PRIORS[self.prior](b, draw.allowed[-1]) for b in draw.allowed]
        if len(self.weights) != len(draw.taught):
            msg = f"{len(self.weights)} weights for the {len(draw.taught)} budgets of budget.train"
            raise ValueError(msg)
        weight_of = dict(zip(draw.taught, self.weights, strict=True))
        weights = [weight_of[b] for b in draw.allowed]
        if not any(weights):
            msg = f"no weight above 0 for any budget allowed at once, {list(draw.allowed)}"
            raise ValueError(msg)
        return weights
