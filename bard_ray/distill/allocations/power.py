"""Budgets weighted by a power of their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.weighted_draws import draw_budgets
from bard_ray.plugins import require_within


@ALLOCATIONS.register("power")
@dataclass(frozen=True)
class PowerAllocation:
    """Budgets drawn without replacement with weights w_b = b^exponent. Source: ours.

    Attributes:
        exponent: -1 favors small budgets, 0 is `uniform`, 1 favors large ones.
    """

    exponent: float = -1.0

    def __post_init__(self) -> None:
        require_within("exponent", self.exponent, -10, 10)

    def choose(
        self,
        natural_tokens: int,
        budgets: Sequence[int],
        count: int,
        generator: np.random.Generator,
    ) -> list[int]:
        """Independent of the chain."""
        weights = [(budget / budgets[-1]) ** self.exponent for budget in budgets]
        return draw_budgets(budgets, weights, count, generator)
