"""Chains from the teacher."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bard_ray.distill.filter import Candidate, Judged
from bard_ray.distill.identity import digest
from bard_ray.distill.step import STEPS, Tools
from bard_ray.distill.teacher import Reply, TeacherRequest
from bard_ray.plugins import require_within
from bard_ray.records import Message, Question

_REASONS = {"stop": "", "length": "cut_off", "failed": "no_reply"}


@STEPS.register("teach")
@dataclass(frozen=True)
class Teach:
    """Ask the teacher for `chains` chains a question; chains that the data has are replaced.

    Reasons: `cut_off`, the reply reached `max_tokens`; `no_reply`, the teacher could not answer
    this question. Source: DED asks for several chains a question; the numbers are ours.

    Attributes:
        chains: a question.
        temperature: 0 is greedy.
        max_tokens: of a reply, thought included, tokens of the teacher.
        instruction: put behind the question, after an empty line.
        at_once: questions of a chunk.
    """

    chains: int = 1
    temperature: float = 0.6
    max_tokens: int = 16_384
    instruction: str = ""
    at_once: int = 64
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("seed", "teacher", "tokenizer")

    def __post_init__(self) -> None:
        require_within("chains", self.chains, 1)
        require_within("temperature", self.temperature, 0)
        require_within("max_tokens", self.max_tokens, 1)
        require_within("at_once", self.at_once, 1)

    @property
    def questions(self) -> int:
        """A chunk."""
        return self.at_once

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        """All chains of all questions, asked for at once; the teacher bounds what it takes on."""
        teacher = await tools.teacher(tools.teacher_name)
        questions = list({record.question.id: record.question for record in records}.values())
        asks = [self._ask(q, turn, tools.seed) for q in questions for turn in range(self.chains)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(teacher.reply(ask)) for ask in asks]
        replies = [task.result() for task in tasks]
        thoughts = tools.prompts.text_ids([reply.think for reply in replies])
        return [
            (_candidate(ask, reply, tokens_T, tools.teacher_name), _REASONS[reply.ended])
            for ask, reply, tokens_T in zip(asks, replies, thoughts, strict=True)
        ]

    def _ask(self, question: Question, turn: int, seed: int) -> TeacherRequest:
        """Its seed follows from run, question and turn, whatever else is asked."""
        number = int(digest([seed, question.id, turn])[:8], 16) >> 1
        messages = _with_instruction(question.messages, self.instruction)
        return TeacherRequest(messages, self.max_tokens, self.temperature, number, question)


def _with_instruction(messages: tuple[Message, ...], instruction: str) -> tuple[Message, ...]:
    if not instruction:
        return messages
    last = max(i for i, message in enumerate(messages) if message.role == "user")
    content = f"{messages[last].content}\n\n{instruction}"
    return (*messages[:last], replace(messages[last], content=content), *messages[last + 1 :])


def _candidate(ask: TeacherRequest, reply: Reply, tokens_T: np.ndarray, origin: str) -> Candidate:
    assert ask.question is not None  # noqa: S101 by `_ask`
    return Candidate(
        ask.question, reply.think.strip(), reply.answer_text.strip(), tokens_T, origin=origin
    )
