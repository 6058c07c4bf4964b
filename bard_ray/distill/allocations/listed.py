"""Budgets by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.compressor import ALLOCATIONS
from bard_ray.errors import ConfigError


@ALLOCATIONS.register("listed")
@dataclass(frozen=True)
class Listed:
    """The budgets of a list; a random subset of them where fewer are wanted.

    Others may be taught all the same, in RL for instance. Source: ours.

    Attributes:
        budgets: tokens, some of those taught.
    """

    budgets: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.budgets:
            msg = "budgets must name at least one budget"
            raise ValueError(msg)

    def choose(
        self, natural_tokens: int, taught: Sequence[int], count: int, generator: np.random.Generator
    ) -> list[int]:
        """Independent of the question.

        Raises:
            ConfigError: one of them is not taught.
        """
        unknown = sorted(set(self.budgets) - set(taught))
        if unknown:
            fix = "Name them in budget.train too."
            raise ConfigError("distill.allocation.params.budgets", unknown, "are not taught", fix)
        return sorted(generator.permutation(np.unique(self.budgets))[:count].tolist())
