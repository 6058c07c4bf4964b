"""Budget allocations: which budgets the chains of a question are compressed to.

An allocation is a file of `bard_ray.distill.allocations` with one frozen dataclass, or the user's
own as `module:Class`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from bard_ray.plugins import Registry


class BudgetAllocation(Protocol):
    """Chooses the budgets of a chain.

    An allocation that needs the lengths of all natural chains first is a `FittedAllocation` too.
    """

    def choose(
        self,
        natural_tokens: int,
        budgets: Sequence[int],
        count: int,
        generator: np.random.Generator,
    ) -> list[int]:
        """At most `count` different budgets, ascending; fewer where there are no more.

        Args:
            natural_tokens: length of the chain as its teacher wrote it, tokens of the student.
            budgets: `budget.train`, ascending.
            count: how many are wanted.
            generator: random numbers of this chain alone.

        Raises:
            ConfigError: its parameters do not fit `budget.train`.
        """
        ...


@runtime_checkable
class FittedAllocation(Protocol):
    """An allocation whose choice depends on the lengths of all natural chains."""

    def fit(self, lengths: Sequence[int]) -> BudgetAllocation:
        """The allocation for chains of these lengths, in tokens of the student."""
        ...


ALLOCATIONS: Registry[BudgetAllocation] = Registry(
    "distill.allocation", "bard_ray.distill.allocations", method="choose"
)


def fit_allocation(allocation: BudgetAllocation, lengths: Sequence[int]) -> BudgetAllocation:
    """The allocation for chains of these lengths; unchanged if it needs no fitting."""
    return allocation.fit(lengths) if isinstance(allocation, FittedAllocation) else allocation
