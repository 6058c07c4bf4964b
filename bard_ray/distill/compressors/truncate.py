"""Truncated chains, with the writer's answer to them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bard_ray.distill.compressor import COMPRESSORS, Compressed, CompressorTools, Reason
from bard_ray.distill.compressors.hindsight import hindsight_budget, not_chosen
from bard_ray.distill.filter import Candidate
from bard_ray.distill.split_points import split_points
from bard_ray.distill.teacher import TeacherRequest
from bard_ray.distill.writing import Window, draw_seeds, gather_all, request_answer, require_writer
from bard_ray.plugins import require_within
from bard_ray.records import token_limit


@COMPRESSORS.register("truncate")
@dataclass(frozen=True)
class Truncate:
    """The beginning of the chain, `connect`, and the writer's answer to that, if it is correct.

    The chain is truncated after the last sentence, line or step that leaves at most high * b tokens
    of the student, `connect` included, and at least low * b. With `ratios` r, a chain of T tokens
    is truncated at r * T instead and gets the smallest training budget that holds r * T; 1 is the
    whole chain. Reasons: `too_short`, there is no split point within the window; `wrong_answer`,
    `no_answer`, `cut_off`, `failed`, `not_graded`, `chain_too_short`, `other_budget`.
    Source: ThinkDial (arXiv 2508.18773) truncates at 1, 1/2 and 1/4, adds a text for each mode and
    has the answer rewritten; `connect` and the window are ours.

    Attributes:
        ratios: shares of the chain to keep; none: truncate to the requested budgets.
        connect: text between the truncated chain and the closing think tag.
        low, high: window of accepted lengths, shares of the budget or of r * T.
        attempts: answers requested until one is correct.
        temperature: of the answer; 0 is greedy.
        max_tokens: of the answer, tokens of the writer.
    """

    ROLES: ClassVar[tuple[str, ...]] = ("writer", "verifier")

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
    def own_budgets(self) -> int:
        """One per ratio."""
        return len(self.ratios)

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], tools: CompressorTools
    ) -> list[Compressed]:
        """All budgets concurrently and independently of each other.

        Raises:
            ConfigError: there is no writer.
        """
        require_writer(tools, "truncate")
        seeds = draw_seeds(budgets, self.attempts, tools.generator)
        targets = self._targets(chain, budgets)
        works = [
            self._truncate(chain, budget, targets.get(budget, 0), row, tools)
            for budget, row in zip(budgets, seeds, strict=True)
        ]
        return await gather_all(works)

    def _targets(self, chain: Candidate, budgets: Sequence[int]) -> dict[int, int]:
        """Tokens to keep, by budget; of two ratios with the same budget the larger one."""
        if not self.ratios:
            return {budget: budget for budget in budgets}
        targets: dict[int, int] = {}
        for ratio in sorted(self.ratios):
            target = max(1, round(ratio * chain.tokens_T.size))
            budget = token_limit(hindsight_budget(target, sorted(budgets)))
            if budget is not None:
                targets[budget] = target
        return targets

    async def _truncate(
        self,
        chain: Candidate,
        budget: int,
        target: int,
        seeds: Sequence[int],
        tools: CompressorTools,
    ) -> Compressed:
        if not target:
            return not_chosen(budget)
        window = Window(self.low, self.high)
        if unchanged := window.unchanged(chain, target):
            return replace(unchanged, budget=budget)
        shortest, longest = window.bounds(target)
        think, num_tokens = truncate_to(chain.think, longest, self.connect, tools)
        if num_tokens < shortest:
            return Compressed(budget, think, reason=Reason.TOO_SHORT)
        return await self._with_answer(chain, Compressed(budget, think), seeds, tools)

    async def _with_answer(
        self, chain: Candidate, truncated: Compressed, seeds: Sequence[int], tools: CompressorTools
    ) -> Compressed:
        answers: list[tuple[str, str]] = []
        for seed in seeds:
            request = self._request(chain, truncated.think, seed)
            answers.append(await request_answer(tools, request, "truncate"))
            if answers[-1][1] in ("", Reason.FAILED, Reason.NOT_GRADED):
                break
        return Compressed(truncated.budget, truncated.think, *answers[-1], len(answers))

    def _request(self, chain: Candidate, think: str, seed: int) -> TeacherRequest:
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


def truncate_to(text: str, limit: int, connect: str, tools: CompressorTools) -> tuple[str, int]:
    """The longest beginning of at most `limit` tokens, and its number of tokens.

    It ends after a sentence, line or step, and `connect` follows; both count.

    Returns:
        Empty text and 0 where even the first split point exceeds the limit. Source: ours.
    """
    ends = split_points(text)

    def length(end: int) -> int:
        return tools.count_tokens([text[:end] + connect])[0]

    place = bisect_right(ends, limit, key=length)
    if place == 0:
        return "", 0
    return text[: ends[place - 1]] + connect, length(ends[place - 1])
