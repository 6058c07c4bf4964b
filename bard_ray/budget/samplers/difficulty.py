"""Harder questions get larger budgets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.budget.draw import SAMPLERS, Draw, number_in_meta
from bard_ray.plugins import require_within


@SAMPLERS.register("difficulty")
@dataclass(frozen=True, slots=True)
class DifficultySampler:
    """One budget a group, its place in the list tied to the question's difficulty.

        d = clip((value - low) / (high - low), 0, 1),  i = round((n - 1) clip(d + u, 0, 1)),
        u uniform in [-spread, spread]

    Attributes:
        field: number in the question's meta that says how hard it is; of a list, its length.
            Default `difficulty`.
        low, high: the values of the easiest and the hardest question. Defaults 0 and 1.
        spread: how far the budget may stray from its place. Default 0.2: with 0 the budget would
            say how hard the question is, and nothing else would be learned from it.

    Source: ours.
    """

    field: str = "difficulty"
    low: float = 0.0
    high: float = 1.0
    spread: float = 0.2

    def __post_init__(self) -> None:
        require_within("spread", self.spread, 0, 1)
        require_within("low", self.low)
        require_within("high", self.high)
        if self.low >= self.high:
            msg = f"low ({self.low:g}) must be smaller than high ({self.high:g})"
            raise ValueError(msg)

    def budgets(self, draw: Draw, generator: np.random.Generator) -> tuple[int, ...]:
        """G times the same budget.

        Raises:
            DataError: the question does not say how hard it is.
        """
        value = number_in_meta(draw.question, self.field)
        d = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        place = min(max(d + generator.uniform(-self.spread, self.spread), 0.0), 1.0)
        return (draw.allowed[round((len(draw.allowed) - 1) * place)],) * draw.group_size
