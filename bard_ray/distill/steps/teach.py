"""Chains of the teacher."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bard_ray.distill.filter import Candidate, StepResult
from bard_ray.distill.identity import digest
from bard_ray.distill.step import STEPS, StepTools
from bard_ray.distill.teacher import Reply, TeacherRequest
from bard_ray.plugins import require_within
from bard_ray.records import Message, Question

_FINISH_REASONS = {"stop": "", "length": "cut_off", "failed": "no_reply"}


@STEPS.register("teach")
@dataclass(frozen=True)
class Teach:
    """Request `chains` chains per question; chains that the data has are replaced.

    Reasons: `cut_off`, the reply reached `max_tokens`; `no_reply`, the teacher could not answer
    this question. Source: DED samples several chains per question; the numbers are ours.

    Attributes:
        chains: per question.
        temperature: 0 is greedy.
        max_tokens: of a reply, thinking included, tokens of the teacher.
        instruction: appended to the question after an empty line.
        chunk_questions: questions requested at a time.
    """

    chains: int = 1
    temperature: float = 0.6
    max_tokens: int = 16_384
    instruction: str = ""
    chunk_questions: int = 64
    ADDS: ClassVar[tuple[str, ...]] = ("think",)
    ROLES: ClassVar[tuple[str, ...]] = ("teacher",)
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("seed", "teacher", "tokenizer")

    def __post_init__(self) -> None:
        require_within("chains", self.chains, 1)
        require_within("temperature", self.temperature, 0)
        require_within("max_tokens", self.max_tokens, 1)
        require_within("chunk_questions", self.chunk_questions, 1)

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        """All chains of all questions concurrently; the teacher limits what it works on."""
        teacher = await tools.teacher(tools.teacher_name)
        questions = list({record.question.id: record.question for record in records}.values())
        requests = [
            self._request(question, turn, tools.seed)
            for question in questions
            for turn in range(self.chains)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(teacher.reply(request)) for request in requests]
        replies = [task.result() for task in tasks]
        ids = tools.prompts.text_ids([reply.think for reply in replies])
        return [
            (
                _candidate(request, reply, tokens_T, tools.teacher_name),
                _FINISH_REASONS[reply.finish],
            )
            for request, reply, tokens_T in zip(requests, replies, ids, strict=True)
        ]

    def _request(self, question: Question, turn: int, seed: int) -> TeacherRequest:
        """One request; its seed depends on run, question and turn only."""
        number = int(digest([seed, question.id, turn])[:8], 16) >> 1
        messages = _with_instruction(question.messages, self.instruction)
        return TeacherRequest(messages, self.max_tokens, self.temperature, number, question)


def _with_instruction(messages: tuple[Message, ...], instruction: str) -> tuple[Message, ...]:
    if not instruction:
        return messages
    last = max(i for i, message in enumerate(messages) if message.role == "user")
    content = f"{messages[last].content}\n\n{instruction}"
    return (*messages[:last], replace(messages[last], content=content), *messages[last + 1 :])


def _candidate(
    request: TeacherRequest, reply: Reply, tokens_T: np.ndarray, origin: str
) -> Candidate:
    assert request.question is not None  # noqa: S101 by `_request`
    return Candidate(
        request.question, reply.think.strip(), reply.answer_text.strip(), tokens_T, origin=origin
    )
