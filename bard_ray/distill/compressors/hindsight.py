"""Natural chains under the budgets they happen to fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bard_ray.distill.compressor import COMPRESSORS, Compressed, CompressorTools, Reason
from bard_ray.distill.filter import Candidate
from bard_ray.records import NO_BUDGET, Budget, TokenBudget, token_limit


@COMPRESSORS.register("hindsight")
@dataclass(frozen=True)
class Hindsight:
    """The chain as it is, at the smallest taught budget b >= T, T its tokens.

    It shortens nothing. A question gets several budgets only by several chains of different
    lengths, so ask the teacher for some. Reasons: `other_budget`; `too_long`, at the largest
    budget, for a chain that fits none. Source: ours, after hindsight relabeling (the outcome names
    the goal that it reached).
    """

    chooses: ClassVar[bool] = True

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], bench: CompressorTools
    ) -> list[Compressed]:
        """One row, at the budget that the chain belongs to."""
        ordered = sorted(budgets)
        fits = token_limit(hindsight_budget(chain.tokens_T.size, ordered))
        home, reason = (ordered[-1], Reason.TOO_LONG) if fits is None else (fits, "")
        row = Compressed(home, chain.think, chain.answer_text, reason)
        return [row if budget == home else elsewhere(budget) for budget in budgets]


def elsewhere(budget: int) -> Compressed:
    """The result at a budget that was not chosen."""
    return Compressed(budget, reason=Reason.OTHER_BUDGET)


def hindsight_budget(num_tokens: int, budgets: Sequence[int]) -> Budget:
    """The smallest budget that a chain of `num_tokens` tokens fits into.

    The row is unconstrained if it fits into none.

    Source: ours, after hindsight relabeling (the outcome names the goal it reached).

    Args:
        num_tokens: length of the thinking in tokens of the student.
        budgets: tokens, ascending.
    """
    place = bisect_left(budgets, num_tokens)
    return TokenBudget(budgets[place]) if place < len(budgets) else NO_BUDGET
