"""Chains rewritten by a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bard_ray.distill.compressor import COMPRESSORS, Compressed, CompressorTools, Reason
from bard_ray.distill.filter import Candidate
from bard_ray.distill.prompt_templates import conversation_text, fill, read_template, sections
from bard_ray.distill.teacher import TeacherRequest
from bard_ray.distill.writing import (
    Window,
    check_answer,
    draw_seeds,
    gather_all,
    parse_rewritten,
    reply_failure,
    request_answer,
    require_writer,
)
from bard_ray.errors import ConfigError
from bard_ray.plugins import require_within
from bard_ray.records import Message

_FINAL = (Reason.FAILED, Reason.NOT_GRADED)  # another attempt would not help
_LENGTHS = (Reason.TOO_LONG, Reason.TOO_SHORT, Reason.COPIED)
_REMARKS = (*_LENGTHS, Reason.WRONG_ANSWER, Reason.NO_ANSWER, Reason.UNSUPPORTED, Reason.BAD_FORMAT)


@COMPRESSORS.register("rewrite")
@dataclass(frozen=True)
class Rewrite:
    """The writer shortens the chain until low * b <= T <= high * b and the answer is correct.

    T is the length of the rewritten chain in tokens of the student. After a rejected attempt the
    writer gets its text back with the reasons and the measured length, up to `attempts` attempts
    per budget. A chain inside the window is taken unchanged (0 attempts), a shorter one is not
    lengthened. Reasons: `too_long`, `too_short`, `copied`, `wrong_answer`, `no_answer`,
    `unsupported`, `bad_format`, `cut_off`, `failed`, `not_graded`, `chain_too_short`; those of the
    best attempt, which is kept. Source: BARD, a second LLM rewrites gold chains to several budgets;
    its prompt and window are not public, prompts and numbers are ours.

    Attributes:
        low, high: window of accepted lengths, shares of the budget; the budget is an upper bound.
        attempts: per budget, the first one included.
        temperature: 0 is greedy.
        max_tokens: of a reply, the writer's own thinking included, tokens of the writer.
        think: let the writer think before it writes; off: its turn starts after an empty think
            prefix, which its backend must support.
        recheck: after an accepted attempt, have the writer answer from the rewritten chain alone,
            and accept only if that answer is correct too.
        prompt: file with the request; empty: `rewrite.txt`.
        feedback: file with the feedback after a rejected attempt; empty: `feedback.txt`.
        request, remarks: their texts.
    """

    low: float = 0.75
    high: float = 1.0
    attempts: int = 4
    temperature: float = 0.6
    max_tokens: int = 16_384
    think: bool = True
    recheck: bool = False
    prompt: str = ""
    feedback: str = ""
    request: str = field(init=False, repr=False)
    remarks: str = field(init=False, repr=False)
    ROLES: ClassVar[tuple[str, ...]] = ("writer", "verifier")
    # The content of a template decides the output, not its path.
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("prompt", "feedback")

    def __post_init__(self) -> None:
        require_within("low", self.low, 0)
        require_within("high", self.high, self.low, open_low=True)
        require_within("attempts", self.attempts, 1)
        require_within("temperature", self.temperature, 0)
        require_within("max_tokens", self.max_tokens, 1)
        request = read_template("prompt", self.prompt, "rewrite", ("question", "chain", "budget"))
        object.__setattr__(self, "request", request)
        object.__setattr__(self, "remarks", read_template("feedback", self.feedback, "feedback"))
        missing = [name for name in (*_REMARKS, "again") if name not in sections(self.remarks)]
        if missing:
            fix = f"Add the line [{missing[0]}], and below it the feedback to the writer."
            rule = f"lacks the section [{missing[0]}]"
            raise ConfigError("distill.compressor.params.feedback", self.feedback, rule, fix)

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], tools: CompressorTools
    ) -> list[Compressed]:
        """All budgets concurrently and independently of each other.

        Raises:
            ConfigError: there is no writer.
        """
        require_writer(tools, "rewrite")
        seeds = draw_seeds(budgets, self.attempts, tools.generator)
        jobs = [
            _Job(self, chain, budget, tools, row)
            for budget, row in zip(budgets, seeds, strict=True)
        ]
        return await gather_all(job.run() for job in jobs)

    def teacher_request(self, messages: tuple[Message, ...], seed: int) -> TeacherRequest:
        """A request to the writer, without a question: its messages only quote one."""
        return TeacherRequest(
            messages,
            self.max_tokens,
            self.temperature,
            seed,
            think=None if self.think else "",
            close_think=not self.think,
        )


@dataclass(frozen=True)
class _Attempt:
    """One text and all reasons to reject it, the most severe first."""

    reply: str = ""
    think: str = ""
    answer_text: str = ""
    tokens: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """One chain to be rewritten to one budget."""

    rule: Rewrite
    chain: Candidate
    budget: int
    tools: CompressorTools
    seeds: tuple[int, ...]

    @property
    def window(self) -> Window:
        return Window(self.rule.low, self.rule.high)

    async def run(self) -> Compressed:
        """Attempt until one is accepted, or another attempt is not allowed or would not help."""
        if unchanged := self.window.unchanged(self.chain, self.budget):
            return unchanged
        attempts: list[_Attempt] = []
        first: tuple[Message, ...] = (Message("user", fill(self.rule.request, self._values())),)
        messages = first
        for seed in self.seeds:
            attempts.append(await self._attempt(messages, seed))
            if not attempts[-1].reasons or attempts[-1].reasons[0] in _FINAL:
                break
            messages = first + self._feedback(attempts[-1])
        best = min(attempts, key=self._badness)
        reason = best.reasons[0] if best.reasons else ""
        return Compressed(self.budget, best.think, best.answer_text, reason, len(attempts))

    async def _attempt(self, messages: tuple[Message, ...], seed: int) -> _Attempt:
        writer = require_writer(self.tools, "rewrite")
        reply = await writer.reply(self.rule.teacher_request(messages, seed))
        if failure := reply_failure(reply):
            return _Attempt(reasons=(failure,))
        text = reply.answer_text.strip()
        think, answer, failure = parse_rewritten(text)
        if failure:
            tokens = self.tools.count_tokens([think])[0] if think else 0
            return _Attempt(text, think, answer, tokens, (failure,))
        return await self._checked(text, think, answer, seed)

    async def _checked(self, text: str, think: str, answer: str, seed: int) -> _Attempt:
        tokens = self.tools.count_tokens([think])[0]
        length = self.window.check(self.budget, tokens)
        if think.split() == self.chain.think.split():
            length = Reason.COPIED
        reasons = [await check_answer(self.tools, self.chain.question, answer), length]
        if self.rule.recheck and not any(reasons):
            reasons.append(await self._recheck(think, seed))
        return _Attempt(text, think, answer, tokens, tuple(filter(None, reasons)))

    async def _recheck(self, think: str, seed: int) -> str:
        question, rule = self.chain.question, self.rule
        request = TeacherRequest(
            question.messages,
            rule.max_tokens,
            rule.temperature,
            seed,
            question,
            think=think,
            close_think=True,
        )
        _, reason = await request_answer(self.tools, request, "rewrite")
        return Reason.UNSUPPORTED if reason in (Reason.WRONG_ANSWER, Reason.NO_ANSWER) else reason

    def _feedback(self, last: _Attempt) -> tuple[Message, ...]:
        """The last attempt and the feedback to it; nothing where it has no text.

        Only the last one: several long chains in one prompt would exceed the context.
        """
        if not last.reply:
            return ()
        remarks = sections(self.rule.remarks)
        parts = [remarks[reason] for reason in last.reasons if reason in remarks]
        values = {**self._values(), "measured": last.tokens, "percent": self._change(last.tokens)}
        text = fill("\n\n".join([*parts, remarks["again"]]), values)
        return (Message("assistant", last.reply), Message("user", text))

    def _values(self) -> dict[str, Any]:
        """Values of the placeholders."""
        low, high = self.window.bounds(self.budget)
        natural, question = self.chain.tokens_T.size, self.chain.question
        share = self._aim / max(1, natural)
        return {
            "question": conversation_text(question.messages),
            "chain": self.chain.think.strip(),
            "answer": question.answer,
            "budget": self.budget,
            "low": low,
            "high": high,
            "natural": natural,
            "percent": round(100 * share),
            "words": max(1, round(share * len(self.chain.think.split()))),
        }

    @property
    def _aim(self) -> float:
        """Middle of the window, tokens."""
        return sum(self.window.bounds(self.budget)) / 2

    def _change(self, tokens: int) -> int:
        """By how many per cent a text has to grow or shrink."""
        return max(1, round(100 * abs(self._aim / max(1, tokens) - 1)))

    def _badness(self, one: _Attempt) -> tuple[bool, bool, bool, float]:
        """Sort key, best first: accepted, then correct answers, then nearest lengths."""
        correct = not one.reasons or one.reasons[0] in _LENGTHS
        return bool(one.reasons), not one.think, not correct, abs(one.tokens - self._aim)
