"""Budgets with given shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.budget.draw import SAMPLERS, Draw, one_of

PRIORS = ("uniform", "linear", "last")


@SAMPLERS.register("weighted")
@dataclass(frozen=True, slots=True)
class Weighted:
    """One budget a group, p(b_i) proportional to w_i.

    Attributes:
        weights: w_i of each budget of `budget.train`, ascending; empty: the prior gives them.
        prior: `uniform` (w = 1), `linear` (w = b), `last` (the largest budget only). Default
            linear, ours.

    Source: the three budget priors of BRPO, arXiv 2505.13438; the weights are ours.
    """

    weights: tuple[float, ...] = ()
    prior: str = "linear"

    def __post_init__(self) -> None:
        if self.prior not in PRIORS:
            msg = f"prior must be one of {', '.join(PRIORS)}, not {self.prior!r}"
            raise ValueError(msg)
        if any(w < 0 for w in self.weights) or (self.weights and not any(self.weights)):
            msg = f"weights must not be negative, nor all 0: {list(self.weights)}"
            raise ValueError(msg)

    def budgets(self, draw: Draw, generator: np.random.Generator) -> tuple[int, ...]:
        """G times the same budget.

        Raises:
            ValueError: there are weights, but not one for each budget taught.
        """
        weight = self._weight_of(draw.taught)
        weights = [weight[b] for b in draw.allowed]
        return (one_of(draw.allowed, weights, generator),) * draw.group_size

    def _weight_of(self, taught: tuple[int, ...]) -> dict[int, float]:
        if self.weights:
            if len(self.weights) != len(taught):
                msg = f"{len(self.weights)} weights for the {len(taught)} budgets of budget.train"
                raise ValueError(msg)
            return dict(zip(taught, self.weights, strict=True))
        if self.prior == "last":
            return {b: float(b == taught[-1]) for b in taught}
        return {b: float(b) if self.prior == "linear" else 1.0 for b in taught}
