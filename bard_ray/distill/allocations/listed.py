"""An explicit list of budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.errors import ConfigError


@ALLOCATIONS.register("listed")
@dataclass(frozen=True)
class ListedAllocation:
    """The budgets of a list; a random subset where fewer are wanted.

    `budget.train` may hold others too, for RL for instance. Source: ours.

    Attributes:
        budgets: tokens, all of them in `budget.train`.
    """

    budgets: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.budgets:
            msg = "budgets must name at least one budget"
            raise ValueError(msg)

    def choose(
        self,
        natural_tokens: int,
        budgets: Sequence[int],
        count: int,
        generator: np.random.Generator,
    ) -> list[int]:
        """Independent of the chain.

        Raises:
            ConfigError: one of them is not in `budget.train`.
        """
        unknown = sorted(set(self.budgets) - set(budgets))
        if unknown:
            rule, fix = "are not in budget.train", "Add them there."
            raise ConfigError("distill.allocation.params.budgets", unknown, rule, fix)
        return sorted(generator.permutation(np.unique(self.budgets))[:count].tolist())
