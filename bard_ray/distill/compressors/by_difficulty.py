"""Chains rewritten to a length that fits the difficulty of their question."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from bard_ray.distill.compressor import COMPRESSORS, Compressed, CompressorTools, Reason
from bard_ray.distill.compressors.hindsight import not_chosen
from bard_ray.distill.compressors.rewrite import Rewrite
from bard_ray.distill.filter import Candidate
from bard_ray.distill.prompt_templates import conversation_text, fill, read_template
from bard_ray.distill.writing import reply_failure, require_writer
from bard_ray.plugins import require_within
from bard_ray.records import Message

_RATING = re.compile(r"<\s*difficulty\s*>\s*(\d+)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


@COMPRESSORS.register("by_difficulty")
@dataclass(frozen=True)
class ByDifficulty(Rewrite):
    """The writer rates the difficulty d = 1..levels and rewrites the chain to a matching budget.

    t(d) = shortest * (longest / shortest)^((d - 1) / (levels - 1)) tokens; the budget is the one
    nearest to t in log b among the training budgets that the chain can fill, low * b <= T. One row
    per chain, so such a corpus has little contrast. Rewriting, its parameters and reasons are those
    of `rewrite`; besides `no_rating`, and `other_budget` at all budgets but one. Source: LiteCoT's
    difficulty-aware prompting (arXiv 2505.19716), where the teacher rates first and then rewrites
    to a suitable length; levels, mapping and prompts are ours.

    Attributes:
        levels: levels of difficulty.
        shortest, longest: lengths for the easiest and the hardest questions, tokens of the student;
            0: the smallest and the largest training budget.
        rating_prompt: file with the prompt for the rating; empty: `difficulty.txt`.
        rating_request: its text.
    """

    levels: int = 5
    shortest: int = 0
    longest: int = 0
    rating_prompt: str = ""
    rating_request: str = field(init=False, repr=False)
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("prompt", "feedback", "rating_prompt")
    own_budgets: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("levels", self.levels, 2)
        require_within("shortest", self.shortest, 0)
        require_within("longest", self.longest, 0)
        if self.longest:
            require_within("longest", self.longest, self.shortest)
        needed = ("question", "levels")
        text = read_template("rating_prompt", self.rating_prompt, "difficulty", needed)
        object.__setattr__(self, "rating_request", text)

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], tools: CompressorTools
    ) -> list[Compressed]:
        """One result, at the budget that fits the difficulty.

        Raises:
            ConfigError: there is no writer.
        """
        seeds = tools.generator.integers(1 << 31, size=self.attempts).tolist()
        rating, requests = await self._rate(chain, tools, seeds)
        chosen = self._budget(rating, chain.tokens_T.size, budgets)
        result = Compressed(chosen, reason=Reason.NO_RATING)
        if rating is not None:
            (result,) = await super().compress(chain, [chosen], tools)
        result = replace(result, attempts=result.attempts + requests)
        return [result if budget == chosen else not_chosen(budget) for budget in budgets]

    async def _rate(
        self, chain: Candidate, tools: CompressorTools, seeds: Sequence[int]
    ) -> tuple[int | None, int]:
        """The difficulty, None if the writer gave none, and the number of requests."""
        question = conversation_text(chain.question.messages)
        values = {"question": question, "chain": chain.think.strip(), "levels": self.levels}
        messages = (Message("user", fill(self.rating_request, values)),)
        for requests, seed in enumerate(seeds, start=1):
            reply = await require_writer(tools, "by_difficulty").reply(
                self.teacher_request(messages, seed)
            )
            failure = reply_failure(reply)
            rating = None if failure else parse_rating(reply.answer_text, self.levels)
            if rating is not None or failure == Reason.FAILED:
                return rating, requests
        return None, len(seeds)

    def _budget(self, rating: int | None, natural: int, budgets: Sequence[int]) -> int:
        """The budget of a difficulty among those that the chain can fill; None: the largest."""
        ordered = sorted(budgets)
        filled = [budget for budget in ordered if natural >= self.low * budget] or ordered[:1]
        if rating is None:
            return filled[-1]
        low, high = self.shortest or ordered[0], self.longest or ordered[-1]
        aim = math.log(low) + (rating - 1) / (self.levels - 1) * math.log(high / low)
        return min(filled, key=lambda budget: abs(math.log(budget) - aim))


def parse_rating(text: str, levels: int) -> int | None:
    """The number in `<difficulty>`, or the only number of the text; None if it is not 1..levels."""
    found = _RATING.findall(text) or _NUMBER.findall(text)
    rating = int(found[-1]) if len(set(found)) == 1 else 0
    return rating if 1 <= rating <= levels else None
