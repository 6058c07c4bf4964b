"""Natural chains at the budgets that they happen to fit."""

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
    """The chain unchanged, at the smallest training budget b >= T, T its tokens.

    It shortens nothing, so a question has rows at several budgets only if it has several chains of
    different lengths. Reasons: `other_budget`; `too_long`, at the largest budget, for a chain that
    fits none. Source: ours, after hindsight relabeling (the outcome defines the goal).
    """

    own_budgets: ClassVar[int] = 1

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], tools: CompressorTools
    ) -> list[Compressed]:
        """One row, at the smallest budget that holds the chain."""
        ordered = sorted(budgets)
        fits = token_limit(hindsight_budget(chain.tokens_T.size, ordered))
        chosen, reason = (ordered[-1], Reason.TOO_LONG) if fits is None else (fits, "")
        row = Compressed(chosen, chain.think, chain.answer_text, reason)
        return [row if budget == chosen else not_chosen(budget) for budget in budgets]


def not_chosen(budget: int) -> Compressed:
    """The result at a budget that was not chosen."""
    return Compressed(budget, reason=Reason.OTHER_BUDGET)


def hindsight_budget(num_tokens: int, budgets: Sequence[int]) -> Budget:
    """The smallest budget that holds `num_tokens` tokens, or no budget if none does.

    Source: ours, after hindsight relabeling.

    Args:
        num_tokens: length of the thinking in tokens of the student.
        budgets: tokens, ascending.
    """
    place = bisect_left(budgets, num_tokens)
    return TokenBudget(budgets[place]) if place < len(budgets) else NO_BUDGET
