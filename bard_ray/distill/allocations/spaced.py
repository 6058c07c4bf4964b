"""Budgets over the whole range for every chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.allocation import ALLOCATIONS


@ALLOCATIONS.register("spaced")
@dataclass(frozen=True)
class SpacedAllocation:
    """Budgets of evenly spaced ranks floor((i + u) * K / count), u ~ U(0, 1), of K budgets.

    All budgets are equally likely, and the budgets of one chain differ as much as they can.
    Source: ours (systematic sampling).
    """

    def choose(
        self,
        natural_tokens: int,
        budgets: Sequence[int],
        count: int,
        generator: np.random.Generator,
    ) -> list[int]:
        """Independent of the chain."""
        count = min(count, len(budgets))
        start = generator.random()
        return [budgets[int((i + start) * len(budgets) / count)] for i in range(count)]
