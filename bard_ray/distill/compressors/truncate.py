"""Chains that are cut off, and answered from what is left."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bard_ray.distill.compressor import COMPRESSORS, Compressed, CompressorTools, Reason
from bard_ray.distill.compressors.hindsight import hindsight_budget
from bard_ray.distill.filter import Candidate
from bard_ray.distill.split_points import cut_ends
from bard_ray.distill.teacher import TeacherRequest
from bard_ray.distill.writing import Window, answer_from, at_once, seeds_of, writer_of
from bard_ray.plugins import require_within
from bard_ray.records import token_limit


@COMPRESSORS.register("truncate")
@dataclass(frozen=True)
class Truncate:
    """The beginning of the chain, `connect`, and the writer's answer to that, if it is right.

    The cut is behind the last sentence, line or step that leaves at most high * b tokens of the
    student, `connect` included, and at least low * b. With `ratios` r a chain of T tokens is cut at
    r * T instead, and belongs to the smallest taught budget that holds r * T; 1 is the whole chain.
    Reasons: `too_short`, no place to cut within the window; `wrong_answer`, `no_answer`,
    `cut_off`, `failed`, `not_graded`, `chain_too_short`, `other_budget`. Source: ThinkDial (arXiv
    2508.18773) cuts at 1, 1/2 and 1/4, adds a text for each mode and has the answer written anew;
    `connect` and the window are ours.

    Attributes:
        ratios: where to cut; none: at the budgets asked for.
        connect: text between the cut and the closing think tag.
        low, high: window of accepted lengths, shares of the budget or of r * T.
        attempts: answers asked for until one is right.
        temperature: of the answer; 0 is greedy.
        max_tokens: of the answer, tokens of the writer.
    """

    NEEDS_WRITER: ClassVar[bool] = True

    ratios: tuple[float, ...] = ()
    connect: str = "\n\nI have to answer now, with what I have so far."
    low: float = 0.75
    high: float = 1.0
    attempts: int = 2
    temperature: float = 0.6
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        for ratio in self.ratios:
            require_within("ratios", ratio, 0, 1, open_low=True)
        require_within("low", self.low, 0)
        require_within("high", self.high, self.low, open_low=True)
        require_within("attempts", self.attempts, 1)
        require_within("temperature", self.temperature, 0)
        require_within("max_tokens", self.max_tokens, 1)

    @property
    def chooses(self) -> bool:
        """Ratios tell the budgets."""
        return bool(self.ratios)

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], bench: CompressorTools
    ) -> list[Compressed]:
        """All budgets at a time; none depends on another.

        Raises:
            ConfigError: there is no writer.
        """
        writer_of(bench, "truncate")
        seeds = seeds_of(budgets, self.attempts, bench.generator)
        aims = self._aims(chain, budgets)
        made = [
            self._cut(chain, budget, aims.get(budget, 0), row, bench)
            for budget, row in zip(budgets, seeds, strict=True)
        ]
        return await at_once(made)

    def _aims(self, chain: Candidate, budgets: Sequence[int]) -> dict[int, int]:
        """Tokens to leave, by budget; of two ratios that fall to one budget the larger one."""
        if not self.ratios:
            return {budget: budget for budget in budgets}
        aims: dict[int, int] = {}
        for ratio in sorted(self.ratios):
            aim = max(1, round(ratio * chain.tokens_T.size))
            budget = token_limit(hindsight_budget(aim, sorted(budgets)))
            if budget is not None:
                aims[budget] = aim
        return aims

    async def _cut(
        self, chain: Candidate, budget: int, aim: int, seeds: Sequence[int], bench: CompressorTools
    ) -> Compressed:
        if not aim:
            return Compressed(budget, reason=Reason.OTHER_BUDGET)
        window = Window(self.low, self.high)
        if as_it_is := window.as_it_is(chain, aim):
            return Compressed(budget, as_it_is.think, as_it_is.answer_text, as_it_is.reason)
        shortest, longest = window.bounds(aim)
        think, num_tokens = cut_to(chain.think, longest, self.connect, bench)
        if num_tokens < shortest:
            return Compressed(budget, think, reason=Reason.TOO_SHORT)
        return await self._answered(chain, Compressed(budget, think), seeds, bench)

    async def _answered(
        self, chain: Candidate, cut: Compressed, seeds: Sequence[int], bench: CompressorTools
    ) -> Compressed:
        tries = []
        for seed in seeds:
            tries.append(await answer_from(bench, self._ask(chain, cut.think, seed), "truncate"))
            if tries[-1][1] in ("", Reason.FAILED, Reason.NOT_GRADED):
                break
        return Compressed(cut.budget, cut.think, *tries[-1], len(tries))

    def _ask(self, chain: Candidate, think: str, seed: int) -> TeacherRequest:
        question = chain.question
        return TeacherRequest(
            question.messages,
            self.max_tokens,
            self.temperature,
            seed,
            question,
            think=think,
            close_think=True,
        )


def cut_to(text: str, limit: int, connect: str, bench: CompressorTools) -> tuple[str, int]:
    """The longest beginning of at most `limit` tokens, and how many it has.

    It ends behind a sentence, line or step, and `connect` follows; both count.

    Returns:
        Empty text and 0 where even the first such place is too far. Source: ours.
    """
    ends = cut_ends(text)

    def length(end: int) -> int:
        return bench.count_tokens([text[:end] + connect])[0]

    place = bisect_right(ends, limit, key=length)
    if place == 0:
        return "", 0
    return text[: ends[place - 1]] + connect, length(ends[place - 1])
