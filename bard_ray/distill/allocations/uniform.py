"""All budgets equally likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.allocation import ALLOCATIONS


@ALLOCATIONS.register("uniform")
@dataclass(frozen=True)
class UniformAllocation:
    """A uniformly random subset of the budgets. Source: ours (tiny task)."""

    def choose(
        self,
        natural_tokens: int,
        budgets: Sequence[int],
        count: int,
        generator: np.random.Generator,
    ) -> list[int]:
        """Independent of the chain."""
        return sorted(generator.permutation(np.array(budgets))[:count].tolist())
