"""Budget bins: the step metrics that tell short budgets from long ones.

Long answers are the ones that asynchrony treats worst: they span more weight versions, so more of
their tokens are stale. A mean over all tokens would hide that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bard_ray.metrics import BINS
from bard_ray.records import Budget, token_limit

NONE = BINS.index("none")


@dataclass(frozen=True, slots=True)
class BudgetBins:
    """Cuts the taught budgets into thirds.

    Attributes:
        edges: largest budget of all bins with a budget but the last, in tokens, ascending.
    """

    edges: tuple[int, ...] = ()

    @classmethod
    def of(cls, budgets: Sequence[int]) -> BudgetBins:
        """Thirds of the distinct budgets of a configuration, the lower ones larger on a tie.

        `of([4, 8, 12, 16])` gives 4 and 8, 12, 16.
        """
        ordered = sorted(set(budgets))
        if not ordered:
            return cls()
        return cls(tuple(ordered[-(-len(ordered) * i // NONE) - 1] for i in range(1, NONE)))

    def index(self, budget: Budget) -> int:
        """Index into `bard_ray.metrics.BINS`.

        A budget that names no number of tokens is in bin `none`.
        """
        limit = token_limit(budget)
        return NONE if limit is None else sum(limit > edge for edge in self.edges)
