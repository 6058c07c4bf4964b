"""What compressors with a writer share: length window, replies, answers."""

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

_FINISH_REASONS = {"stop": "", "length": Reason.CUT_OFF, "failed": Reason.FAILED}
_OUTCOME_REASONS = {
    Outcome.CORRECT: "",
    Outcome.WRONG: Reason.WRONG_ANSWER,
    Outcome.UNPARSABLE: Reason.NO_ANSWER,
}


@dataclass(frozen=True)
class Window:
    """Accepted lengths for a budget b: from low * b to high * b tokens.

    Attributes:
        low, high: shares of the budget.
    """

    low: float
    high: float

    def bounds(self, budget: int) -> tuple[int, int]:
        """Shortest and longest accepted length."""
        # Rounded, or 0.07 * 100 would be more than 7.
        low, high = round(self.low * budget, 6), round(self.high * budget, 6)
        return max(1, math.ceil(low)), math.floor(high)

    def check(self, budget: int, num_tokens: int) -> str:
        """Empty, or the reason why a text of this length is rejected."""
        shortest, longest = self.bounds(budget)
        if num_tokens > longest:
            return Reason.TOO_LONG
        return Reason.TOO_SHORT if num_tokens < shortest else ""

    def unchanged(self, chain: Candidate, budget: int) -> Compressed | None:
        """The result for a chain that is not too long; None: it has to be shortened."""
        reason = self.check(budget, chain.tokens_T.size)
        if reason == Reason.TOO_LONG:
            return None
        if reason == Reason.TOO_SHORT:
            return Compressed(budget, reason=Reason.CHAIN_TOO_SHORT)
        return Compressed(budget, chain.think, chain.answer_text)


def require_writer(tools: CompressorTools, compressor: str) -> Teacher:
    """The writer.

    Raises:
        ConfigError: the configuration names none.
    """
    if tools.writer is None:
        rule = f"is empty, but the compressor {compressor} needs a model that writes"
        fix = "Name an entry of distill.teachers."
        raise ConfigError("distill.compressor.writer", "", rule, fix)
    return tools.writer


def draw_seeds(
    budgets: Sequence[int], number: int, generator: np.random.Generator
) -> list[tuple[int, ...]]:
    """Seeds of `number` requests per budget; those of a budget do not depend on the other budgets.

    Args:
        budgets: one row each.
        number: of requests.
        generator: consumed by one draw.
    """
    base = int(generator.integers(1 << 31))
    rows = (np.random.default_rng((base, budget)) for budget in budgets)
    return [tuple(row.integers(1 << 31, size=number).tolist()) for row in rows]


async def gather_all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order; if one fails, the others are canceled.

    Raises:
        ExceptionGroup: of the failures.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


def reply_failure(reply: Reply) -> str:
    """Empty, or the reason why a reply cannot be used."""
    return _FINISH_REASONS[reply.finish]


async def check_answer(tools: CompressorTools, question: Question, text: str) -> str:
    """Empty where the answer is correct, else the reason."""
    (verdict,) = await tools.grade([GradeItem(text, question.answer, question.kind)])
    return _OUTCOME_REASONS.get(verdict.outcome, Reason.NOT_GRADED)


async def request_answer(
    tools: CompressorTools, request: TeacherRequest, compressor: str
) -> tuple[str, str]:
    """The writer's answer after a complete think prefix.

    Args:
        tools: writer and verifier.
        request: with question and think prefix.
        compressor: for error messages.

    Returns:
        The answer, and the reason why it is rejected; empty if it is not.
    """
    assert request.question is not None  # noqa: S101 by the callers
    reply = await require_writer(tools, compressor).reply(request)
    if failure := reply_failure(reply):
        return "", failure
    answer = reply.answer_text.strip()
    return answer, await check_answer(tools, request.question, answer)


def parse_rewritten(text: str) -> tuple[str, str, str]:
    r"""Thinking and answer of a reply in the form that `rewrite.txt` asks for.

    The last `<reasoning>...</reasoning>` counts, so that comments and drafts before it do not; what
    follows it is the answer where the answer has no tags. A bare result is put in a box.

    Args:
        text: the reply, without the writer's own thinking.

    Returns:
        Thinking, answer, and a reason if either is missing or contains think tags. Source: ours.
    """
    think, answer = _tagged(text)
    if not think or _THINK_TAG.search(think + answer):
        return "", "", Reason.BAD_FORMAT
    return think, _boxed(answer), "" if answer else Reason.NO_ANSWER


def _tagged(text: str) -> tuple[str, str]:
    """Text after the last opening reasoning tag that is followed by another tag, and the answer."""
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
    """Put a bare result, one line without an answer marker, into a box."""
    bare = answer.strip("$ ")
    if not bare or "\n" in answer or extract_math(answer).rule != "no_answer":
        return answer
    return f"\\boxed{{{bare}}}"
