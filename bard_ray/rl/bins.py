"""Budget bins: step metrics are reported separately for short, middle and long budgets.

Asynchrony affects long answers most: they span more weight versions, so more of their tokens are
stale. A mean over all tokens would hide that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bard_ray.metrics import BINS
from bard_ray.records import Budget, token_limit

NONE = BINS.index("none")


@dataclass(frozen=True, slots=True)
class BudgetBins:
    """Splits the training budgets into thirds.

    Attributes:
        edges: largest budgets of the bins `short` and `middle`, tokens, ascending.
    """

    edges: tuple[int, ...] = ()

    @classmethod
    def of(cls, budgets: Sequence[int]) -> BudgetBins:
        """Thirds of the distinct budgets; where they are not divisible, lower bins are larger.

        `of([4, 8, 12, 16])` gives the bins 4 and 8, 12, 16.
        """
        ordered = sorted(set(budgets))
        if not ordered:
            return cls()
        return cls(tuple(ordered[-(-len(ordered) * i // NONE) - 1] for i in range(1, NONE)))

    def index(self, budget: Budget) -> int:
        """Index into `bard_ray.metrics.BINS`; budgets without a number of tokens are in `none`."""
        limit = token_limit(budget)
        return NONE if limit is None else sum(limit > edge for edge in self.edges)
