"""Long budgets for the few chains that can fill them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.weighted_draws import draw_budgets, require_lengths, summary
from bard_ray.plugins import require_within


@ALLOCATIONS.register("balanced")
@dataclass(frozen=True)
class BalancedAllocation:
    """Budgets b <= N / low, drawn without replacement with weights 1 / r_b.

    N is the natural length of the chain, r_b the share of all natural chains with N >= low * b. A
    chain is never rewritten to a longer one, so a uniform draw leaves few rows at long budgets, and
    students are weak at rare budgets. Here the few chains that can fill a long budget mostly get
    it, and none gets a budget that it cannot fill, except the smallest one where it can fill none.
    Source: ours, after BARD's remark that budgets in the tail of its training distribution stay
    weak.

    Attributes:
        low: shortest rewritten chain as a share of its budget; should equal the compressor's.
        lengths: natural lengths of all chains, tokens of the student; set by `fit`.
    """

    low: float = 0.75
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_within("low", self.low, 0, open_low=True)

    def fit(self, lengths: Sequence[int]) -> BalancedAllocation:
        """The same with these lengths."""
        return replace(self, lengths=summary(lengths))

    def choose(
        self,
        natural_tokens: int,
        budgets: Sequence[int],
        count: int,
        generator: np.random.Generator,
    ) -> list[int]:
        """Depends on the length of the chain.

        Raises:
            ConfigError: the allocation was not fitted.
        """
        require_lengths(self.lengths, "balanced")
        ordered = sorted(self.lengths)
        within = [b for b in budgets if natural_tokens >= self.low * b] or [budgets[0]]
        reach = [len(ordered) - bisect_left(ordered, self.low * budget) for budget in within]
        return draw_budgets(within, [1 / max(1, n) for n in reach], count, generator)
