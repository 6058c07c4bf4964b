"""One budget per chain, longer for longer chains: a corpus without contrast."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.weighted_draws import require_lengths, summary
from bard_ray.plugins import require_within


@ALLOCATIONS.register("tied")
@dataclass(frozen=True)
class TiedAllocation:
    """One budget: the one of rank floor(q * K), q the quantile of N among all chains.

    N is the natural length, K the number of budgets. q = (n_less + u * n_equal) / n with u ~
    U(0, 1), moved by U(-jitter, jitter) and reflected at 0 and 1, so that all budgets are covered
    equally. In such a corpus the question explains the length, as in natural chains; contrast
    removes that. (One budget drawn independently of the question would be no ablation: it teaches
    budget adherence as well.) Source: ours (tiny task), for BARD's ablation of contrast.

    Attributes:
        jitter: noise of the quantile, in [0, 1].
        lengths: natural lengths of all chains, tokens of the student; set by `fit`.
    """

    jitter: float = 0.0
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_within("jitter", self.jitter, 0, 1)

    def fit(self, lengths: Sequence[int]) -> TiedAllocation:
        """The same with these lengths."""
        return replace(self, lengths=summary(lengths))

    def choose(
        self,
        natural_tokens: int,
        budgets: Sequence[int],
        count: int,
        generator: np.random.Generator,
    ) -> list[int]:
        """One budget, whatever the count.

        Raises:
            ConfigError: the allocation was not fitted.
        """
        require_lengths(self.lengths, "tied")
        ordered = sorted(self.lengths)
        less, up_to = bisect_left(ordered, natural_tokens), bisect_right(ordered, natural_tokens)
        quantile = (less + generator.random() * (up_to - less)) / len(ordered)
        moved = abs(quantile + generator.uniform(-self.jitter, self.jitter))
        inside = min(moved, 2 - moved)
        return [budgets[min(int(inside * len(budgets)), len(budgets) - 1)]]
