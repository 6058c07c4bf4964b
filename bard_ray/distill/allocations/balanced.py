"""Long budgets for the few questions that can fill them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bard_ray.distill.compressor import ALLOCATIONS
from bard_ray.distill.weighted_draws import draw_budgets, require_lengths, summary
from bard_ray.plugins import require_within


@ALLOCATIONS.register("balanced")
@dataclass(frozen=True)
class Balanced:
    """Drawn without replacement among the budgets b <= N / low, with weights 1 / r_b.

    N is the natural length, r_b the share of all natural chains with N >= low * b. No chain can be
    rewritten to a longer one, so of an even draw few long rows are left, and students are weak at
    the budgets that are rare. Here the few questions that can fill a long budget mostly get it, and
    none is asked for one that it cannot fill; the smallest budget where there is no other. Source:
    ours, after BARD's remark that budgets in the tail of its training distribution stay weak.

    Attributes:
        low: shortest rewritten chain as a share of its budget, that of the compressor.
        lengths: natural lengths of all chains, tokens of the student; put there by `fit`.
    """

    low: float = 0.75
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_within("low", self.low, 0, open_low=True)

    def fit(self, lengths: Sequence[int]) -> Balanced:
        """Go by these lengths."""
        return replace(self, lengths=summary(lengths))

    def choose(
        self, natural_tokens: int, taught: Sequence[int], count: int, generator: np.random.Generator
    ) -> list[int]:
        """Different for long and for short chains.

        Raises:
            ConfigError: the allocation was not fitted.
        """
        require_lengths(self.lengths, "balanced")
        ordered = sorted(self.lengths)
        within = [b for b in taught if natural_tokens >= self.low * b] or [taught[0]]
        reach = [len(ordered) - bisect_left(ordered, self.low * budget) for budget in within]
        return draw_budgets(within, [1 / max(1, n) for n in reach], count, generator)
