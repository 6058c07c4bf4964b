"""Chains rewritten by a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bard_ray.distill.compressor import COMPRESSORS, Compressed, CompressorTools, Reason
from bard_ray.distill.filter import Candidate
from bard_ray.distill.prompt_templates import conversation_text, fill, read_prompt, sections
from bard_ray.distill.teacher import TeacherRequest
from bard_ray.distill.writing import (
    Window,
    answer_from,
    at_once,
    ended_badly,
    judge_answer,
    parse_rewritten,
    seeds_of,
    writer_of,
)
from bard_ray.errors import ConfigError
from bard_ray.plugins import require_within
from bard_ray.records import Message

_HOPELESS = (Reason.FAILED, Reason.NOT_GRADED)  # asking again does not help
_LENGTHS = (Reason.TOO_LONG, Reason.TOO_SHORT, Reason.COPIED)
_REMARKS = (*_LENGTHS, Reason.WRONG_ANSWER, Reason.NO_ANSWER, Reason.UNSUPPORTED, Reason.BAD_FORMAT)


@COMPRESSORS.register("rewrite")
@dataclass(frozen=True)
class Rewrite:
    """The writer shortens the chain until low * b <= T <= high * b and the answer is right.

    T is the length of the rewritten thought in tokens of the student. After a try that is no good
    the writer is shown it and told what is wrong, with the length it had, up to `attempts` tries a
    budget. A chain inside the window is taken as it is (0 attempts), a shorter one is not
    stretched. Reasons: `too_long`, `too_short`, `copied`, `wrong_answer`, `no_answer`,
    `unsupported`, `bad_format`, `cut_off`, `failed`, `not_graded`, `chain_too_short`; that of the
    nearest try, which is kept. Source: BARD, a second LLM rewrites gold chains to several budgets;
    its prompt and window are not public, prompts and numbers are ours.

    Attributes:
        low, high: window of accepted lengths, shares of the budget; the budget is an upper bound.
        attempts: tries a budget, the first one included.
        temperature: 0 is greedy.
        max_tokens: of a reply, the writer's own thought included, tokens of the writer.
        think: let the writer think before it writes; off: it starts behind an empty thought, which
            its backend has to be able to give it.
        recheck: after a good try, ask the writer to answer from the rewritten thought alone, and
            accept only if that is right too.
        prompt: file with the request; empty: `rewrite.txt`.
        feedback: file with what is said after a try that is no good; empty: `feedback.txt`.
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
    # What a file says decides what is written, not where it lies.
    NEEDS_WRITER: ClassVar[bool] = True
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("prompt", "feedback")

    def __post_init__(self) -> None:
        require_within("low", self.low, 0)
        require_within("high", self.high, self.low, open_low=True)
        require_within("attempts", self.attempts, 1)
        require_within("temperature", self.temperature, 0)
        require_within("max_tokens", self.max_tokens, 1)
        request = read_prompt("prompt", self.prompt, "rewrite", ("question", "chain", "budget"))
        object.__setattr__(self, "request", request)
        object.__setattr__(self, "remarks", read_prompt("feedback", self.feedback, "feedback"))
        missing = [name for name in (*_REMARKS, "again") if name not in sections(self.remarks)]
        if missing:
            fix = f"Write the line [{missing[0]}], and below it what the writer is to be told."
            rule = f"lacks the section [{missing[0]}]"
            raise ConfigError("distill.compressor.params.feedback", self.feedback, rule, fix)

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], bench: CompressorTools
    ) -> list[Compressed]:
        """All budgets at a time; none depends on another.

        Raises:
            ConfigError: there is no writer.
        """
        writer_of(bench, "rewrite")
        seeds = seeds_of(budgets, self.attempts, bench.generator)
        jobs = [
            _Job(self, chain, budget, bench, row)
            for budget, row in zip(budgets, seeds, strict=True)
        ]
        return await at_once(job.run() for job in jobs)

    def ask(self, messages: tuple[Message, ...], seed: int) -> TeacherRequest:
        """An ask of the writer; without a question, for its messages are only about one."""
        return TeacherRequest(
            messages,
            self.max_tokens,
            self.temperature,
            seed,
            think=None if self.think else "",
            close_think=not self.think,
        )


@dataclass(frozen=True)
class _Try:
    """One text and all that is wrong with it, the worst first."""

    reply: str = ""
    think: str = ""
    answer_text: str = ""
    tokens: int = 0
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """One chain to be rewritten to one budget."""

    rule: Rewrite
    chain: Candidate
    budget: int
    bench: CompressorTools
    seeds: tuple[int, ...]

    @property
    def window(self) -> Window:
        return Window(self.rule.low, self.rule.high)

    async def run(self) -> Compressed:
        """Try until one is good, or no further one is allowed or of use."""
        if as_it_is := self.window.as_it_is(self.chain, self.budget):
            return as_it_is
        tries: list[_Try] = []
        first: tuple[Message, ...] = (Message("user", fill(self.rule.request, self._values())),)
        messages = first
        for seed in self.seeds:
            tries.append(await self._try(messages, seed))
            if not tries[-1].wrong or tries[-1].wrong[0] in _HOPELESS:
                break
            messages = first + self._feedback(tries[-1])
        best = min(tries, key=self._badness)
        reason = best.wrong[0] if best.wrong else ""
        return Compressed(self.budget, best.think, best.answer_text, reason, len(tries))

    async def _try(self, messages: tuple[Message, ...], seed: int) -> _Try:
        reply = await writer_of(self.bench, "rewrite").reply(self.rule.ask(messages, seed))
        if bad := ended_badly(reply):
            return _Try(wrong=(bad,))
        text = reply.answer_text.strip()
        think, answer, bad = parse_rewritten(text)
        if bad:
            tokens = self.bench.count_tokens([think])[0] if think else 0
            return _Try(text, think, answer, tokens, (bad,))
        return await self._judged(text, think, answer, seed)

    async def _judged(self, text: str, think: str, answer: str, seed: int) -> _Try:
        tokens = self.bench.count_tokens([think])[0]
        length = self.window.judge(self.budget, tokens)
        if think.split() == self.chain.think.split():
            length = Reason.COPIED
        wrong = [await judge_answer(self.bench, self.chain.question, answer), length]
        if self.rule.recheck and not any(wrong):
            wrong.append(await self._recheck(think, seed))
        return _Try(text, think, answer, tokens, tuple(filter(None, wrong)))

    async def _recheck(self, think: str, seed: int) -> str:
        question, rule = self.chain.question, self.rule
        ask = TeacherRequest(
            question.messages,
            rule.max_tokens,
            rule.temperature,
            seed,
            question,
            think=think,
            close_think=True,
        )
        _, bad = await answer_from(self.bench, ask, "rewrite")
        return Reason.UNSUPPORTED if bad in (Reason.WRONG_ANSWER, Reason.NO_ANSWER) else bad

    def _feedback(self, last: _Try) -> tuple[Message, ...]:
        """The last try and what is to be done about it; nothing where it has no text to speak of.

        Only the last one: a chain is long, and several of them in one prompt longer.
        """
        if not last.reply:
            return ()
        remarks = sections(self.rule.remarks)
        told = [remarks[reason] for reason in last.wrong if reason in remarks]
        values = {**self._values(), "measured": last.tokens, "percent": self._change(last.tokens)}
        text = fill("\n\n".join([*told, remarks["again"]]), values)
        return (Message("assistant", last.reply), Message("user", text))

    def _values(self) -> dict[str, Any]:
        """What placeholders stand for."""
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

    def _badness(self, one: _Try) -> tuple[bool, bool, bool, float]:
        """The smallest is the nearest: good ones, then right answers, then lengths."""
        right = not one.wrong or one.wrong[0] in _LENGTHS
        return bool(one.wrong), not one.think, not right, abs(one.tokens - self._aim)
