"""Chains rewritten to the one length that their question deserves."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from bard_ray.distill.compressor import COMPRESSORS, Compressed, CompressorTools, Reason
from bard_ray.distill.compressors.hindsight import elsewhere
from bard_ray.distill.compressors.rewrite import Rewrite
from bard_ray.distill.filter import Candidate
from bard_ray.distill.prompt_templates import conversation_text, fill, read_prompt
from bard_ray.distill.writing import ended_badly, writer_of
from bard_ray.plugins import require_within
from bard_ray.records import Message

_RATING = re.compile(r"<\s*difficulty\s*>\s*(\d+)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


@COMPRESSORS.register("by_difficulty")
@dataclass(frozen=True)
class ByDifficulty(Rewrite):
    """The writer rates the difficulty d = 1..levels, and rewrites to the budget that follows.

    t(d) = shortest * (longest / shortest)^((d - 1) / (levels - 1)) tokens; the budget is the one
    nearest to t in log b among those taught that the chain can fill, low * b <= T. One row a chain:
    this is no contrastive set, mix it with one. Rewriting, its parameters and reasons are those of
    `rewrite`; besides `no_rating`, and `other_budget` at all budgets but one. Source: LiteCoT's
    difficulty-aware prompting (arXiv 2505.19716), where the teacher rates first and rewrites to a
    length that suits; levels, mapping and prompts are ours.

    Attributes:
        levels: grades of difficulty.
        shortest, longest: lengths of the easiest and of the hardest questions, tokens of the
            student; 0: the smallest and the largest taught budget.
        rating_prompt: file with the question for the difficulty; empty: `difficulty.txt`.
        rating_request: its text.
    """

    levels: int = 5
    shortest: int = 0
    longest: int = 0
    rating_prompt: str = ""
    rating_request: str = field(init=False, repr=False)
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("prompt", "feedback", "rating_prompt")
    chooses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("levels", self.levels, 2)
        require_within("shortest", self.shortest, 0)
        require_within("longest", self.longest, 0)
        if self.longest:
            require_within("longest", self.longest, self.shortest)
        needed = ("question", "levels")
        text = read_prompt("rating_prompt", self.rating_prompt, "difficulty", needed)
        object.__setattr__(self, "rating_request", text)

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], bench: CompressorTools
    ) -> list[Compressed]:
        """One try, at the budget that fits the question.

        Raises:
            ConfigError: there is no writer.
        """
        seeds = bench.generator.integers(1 << 31, size=self.attempts).tolist()
        rating, asked = await self._rate(chain, bench, seeds)
        chosen = self._budget(rating, chain.tokens_T.size, budgets)
        made = Compressed(chosen, reason=Reason.NO_RATING)
        if rating is not None:
            (made,) = await super().compress(chain, [chosen], bench)
        made = replace(made, attempts=made.attempts + asked)
        return [made if budget == chosen else elsewhere(budget) for budget in budgets]

    async def _rate(
        self, chain: Candidate, bench: CompressorTools, seeds: Sequence[int]
    ) -> tuple[int | None, int]:
        """The difficulty, None if there is none, and how often it was asked for."""
        question = conversation_text(chain.question.messages)
        values = {"question": question, "chain": chain.think.strip(), "levels": self.levels}
        messages = (Message("user", fill(self.rating_request, values)),)
        for asked, seed in enumerate(seeds, start=1):
            reply = await writer_of(bench, "by_difficulty").reply(self.ask(messages, seed))
            bad = ended_badly(reply)
            rating = None if bad else parse_rating(reply.answer_text, self.levels)
            if rating is not None or bad == Reason.FAILED:
                return rating, asked
        return None, len(seeds)

    def _budget(self, rating: int | None, natural: int, budgets: Sequence[int]) -> int:
        """What the difficulty asks for, as far as the chain can fill it; the most without one."""
        taught = sorted(budgets)
        filled = [budget for budget in taught if natural >= self.low * budget] or taught[:1]
        if rating is None:
            return filled[-1]
        low, high = self.shortest or taught[0], self.longest or taught[-1]
        aim = math.log(low) + (rating - 1) / (self.levels - 1) * math.log(high / low)
        return min(filled, key=lambda budget: abs(math.log(budget) - aim))


def parse_rating(text: str, levels: int) -> int | None:
    """The number in `<difficulty>`, or the only number there is; None if it is not 1..levels."""
    found = _RATING.findall(text) or _NUMBER.findall(text)
    rating = int(found[-1]) if len(set(found)) == 1 else 0
    return rating if 1 <= rating <= levels else None
