"""What compressors that ask a model share: the window of lengths, the reply, the answer."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from bard_ray.distill.compressor import Compressed, CompressorTools, Reason
from bard_ray.distill.filter import Candidate
from bard_ray.distill.teacher import Reply, Teacher, TeacherRequest
from bard_ray.errors import ConfigError
from bard_ray.records import GradeItem, Outcome, Question
from bard_ray.verify.extract import extract_math

T = TypeVar("T")

_THINK_TAG = re.compile(r"</?think>", re.IGNORECASE)
_TAG = re.compile(r"<\s*(/?)\s*(reasoning|answer)\s*>", re.IGNORECASE)

_ENDED = {"stop": "", "length": Reason.CUT_OFF, "failed": Reason.FAILED}
_GRADED = {
    Outcome.CORRECT: "",
    Outcome.WRONG: Reason.WRONG_ANSWER,
    Outcome.UNPARSABLE: Reason.NO_ANSWER,
}


@dataclass(frozen=True)
class Window:
    """Lengths that are good for a budget b: from low * b to high * b tokens.

    Attributes:
        low, high: shares of the budget.
    """

    low: float
    high: float

    def bounds(self, budget: int) -> tuple[int, int]:
        """Shortest and longest, both good."""
        # Rounded, or 0.07 * 100 would be more than 7.
        low, high = round(self.low * budget, 6), round(self.high * budget, 6)
        return max(1, math.ceil(low)), math.floor(high)

    def judge(self, budget: int, num_tokens: int) -> str:
        """Empty, or why a text of this length is no good."""
        shortest, longest = self.bounds(budget)
        if num_tokens > longest:
            return Reason.TOO_LONG
        return Reason.TOO_SHORT if num_tokens < shortest else ""

    def as_it_is(self, chain: Candidate, budget: int) -> Compressed | None:
        """The result for a chain that is not longer than wanted; None: it has to be shortened."""
        verdict = self.judge(budget, chain.tokens_T.size)
        if verdict == Reason.TOO_LONG:
            return None
        if verdict == Reason.TOO_SHORT:
            return Compressed(budget, reason=Reason.CHAIN_TOO_SHORT)
        return Compressed(budget, chain.think, chain.answer_text)


def writer_of(bench: CompressorTools, compressor: str) -> Teacher:
    """The writer.

    Raises:
        ConfigError: there is none.
    """
    if bench.writer is None:
        rule = f"is empty, but the compressor {compressor} asks a model"
        fix = "Name an entry of distill.teachers."
        raise ConfigError("distill.compressor.writer", "", rule, fix)
    return bench.writer


def seeds_of(
    budgets: Sequence[int], number: int, generator: np.random.Generator
) -> list[tuple[int, ...]]:
    """Seeds of `number` asks a budget; those of a budget are the same whatever the others are.

    Args:
        budgets: one row each.
        number: of asks.
        generator: consumed by one draw.
    """
    base = int(generator.integers(1 << 31))
    rows = (np.random.default_rng((base, budget)) for budget in budgets)
    return [tuple(row.integers(1 << 31, size=number).tolist()) for row in rows]


async def at_once(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order; where one fails, the others are given up.

    Raises:
        ExceptionGroup: of what failed.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


def ended_badly(reply: Reply) -> str:
    """Empty, or the reason why a reply is of no use."""
    return _ENDED[reply.ended]


async def judge_answer(bench: CompressorTools, question: Question, text: str) -> str:
    """Empty where the answer is the gold one, else the reason."""
    (verdict,) = await bench.grade([GradeItem(text, question.answer, question.kind)])
    return _GRADED.get(verdict.outcome, Reason.NOT_GRADED)


async def answer_from(
    bench: CompressorTools, ask: TeacherRequest, compressor: str
) -> tuple[str, str]:
    """What the writer answers after a thought that was written for it.

    Args:
        bench: to ask and to grade.
        ask: with question and thought.
        compressor: for messages.

    Returns:
        The answer, and why it is no good, empty if it is.
    """
    assert ask.question is not None  # noqa: S101 by the callers
    reply = await writer_of(bench, compressor).reply(ask)
    if bad := ended_badly(reply):
        return "", bad
    answer = reply.answer_text.strip()
    return answer, await judge_answer(bench, ask.question, answer)


def parse_rewritten(text: str) -> tuple[str, str, str]:
    r"""Thought and answer of a reply in the form that `rewrite.txt` asks for.

    The last `<reasoning>...</reasoning>` counts, so that talk and drafts before it do not; what
    follows it is the answer where the answer has no tags. A bare result is put in a box.

    Args:
        text: what the writer wrote behind its own thought.

    Returns:
        Thought, answer, and a reason if either is missing or has think tags in it. Source: ours.
    """
    think, answer = _tagged(text)
    if not think or _THINK_TAG.search(think + answer):
        return "", "", Reason.BAD_FORMAT
    return think, _boxed(answer), "" if answer else Reason.NO_ANSWER


def _tagged(text: str) -> tuple[str, str]:
    """Text behind the last opening reasoning tag that is followed by another, and the answer."""
    pieces = _TAG.split(text)
    tags = [slash + name.lower() for slash, name in zip(pieces[1::3], pieces[2::3], strict=True)]
    bodies = [body.strip() for body in pieces[3::3]]
    think = answer = ""
    for tag, body, following in zip(tags, bodies, [*tags, ""][1:], strict=True):
        if tag == "reasoning" and following in ("/reasoning", "answer"):
            think, answer = body, ""
        elif tag == "answer" or (tag == "/reasoning" and not answer):
            answer = body
    return think, answer


def _boxed(answer: str) -> str:
    """Put a bare result, one line in which nothing marks the answer, into a box."""
    bare = answer.strip("$ ")
    if not bare or "\n" in answer or extract_math(answer).rule != "no_answer":
        return answer
    return f"\\boxed{{{bare}}}"
