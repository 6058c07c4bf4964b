"""How likely each chain is, token by token, under its teacher and under the student."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bard_ray.data.prompt import PromptFormat
from bard_ray.distill.filter import Candidate, Judged
from bard_ray.distill.likelihood import aligned_ends, sentence_cuts, spread_means
from bard_ray.distill.step import STEPS, Tools
from bard_ray.distill.teacher import EngineSpec, prompt_format
from bard_ray.errors import DataError
from bard_ray.plugins import require_within
from bard_ray.records import NO_BUDGET, Floats, Ints

CHUNK_QUESTIONS = 256


@dataclass(frozen=True, slots=True)
class Reading:
    """A chain as one model reads it.

    Attributes:
        tokens_T: prompt and thought.
        start: where the thought begins.
        ends_T: where in its text each token of the thought ends, characters.
        thought: its tokens as text, to compare with another model's.
    """

    tokens_T: Ints
    start: int
    ends_T: Ints
    thought: tuple[str, ...]


@STEPS.register("likelihoods")
@dataclass(frozen=True)
class Likelihoods:
    """Log-probs of every thought under teacher and student, and where its sentences end.

    Each model reads the thought behind its own prompt: its chat template and open think tag; the
    student's holds the budget where the chain has one. Where the teacher cuts the text into other
    tokens than the student, every token of a sentence carries the mean log-prob of the teacher's
    own tokens of that sentence, so that p_T of a sentence is right and p_T of a token is not
    known. Reasons: `no_thought`, `too_long`. Source: sentence scores of DASD (2601.09088);
    sentences and the mapping between tokenizers are ours.

    Attributes:
        teacher: model directory or hub id of the model that wrote the chains.
        boundary: regular expression; a sentence ends where a match ends.
        max_tokens: longest prompt plus thought, tokens of either model; `learner.pack_len` has to
            hold it.
        batch_tokens: tokens sent to a model in one call.
        think_open: opening think tag of the teacher.
        think_close: its closing one.
    """

    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("student", "tokenizer")
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("batch_tokens",)

    teacher: str
    boundary: str = r"\n+|(?<=[.!?])\s+"
    max_tokens: int = 16_384
    batch_tokens: int = 65_536
    think_open: str = "<think>"
    think_close: str = "</think>"

    def __post_init__(self) -> None:
        require_within("max_tokens", self.max_tokens, 2)
        require_within("batch_tokens", self.batch_tokens, 1)
        try:
            re.compile(self.boundary)
        except re.error as error:
            msg = f"boundary is no regular expression: {error}"
            raise ValueError(msg) from error

    @property
    def questions(self) -> int:
        """A chunk."""
        return CHUNK_QUESTIONS

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        """Ask the student about all chains, then the teacher: one reference may serve both.

        Raises:
            ConfigError: a tokenizer cannot be read, or tells no text offsets.
            DataError: a chain's tokens are not those of its text.
        """
        spec = EngineSpec(self.teacher, think_open=self.think_open, think_close=self.think_close)
        teacher = await asyncio.to_thread(prompt_format, self.teacher, spec)
        as_student = await asyncio.to_thread(_readings, records, tools.prompts, budgeted=True)
        as_teacher = await asyncio.to_thread(_readings, records, teacher, budgeted=False)
        _check_tokens(records, as_student)
        reasons = [self._reason(*pair) for pair in zip(as_student, as_teacher, strict=True)]
        judged: list[Judged] = list(zip(records, reasons, strict=True))
        kept = [i for i, reason in enumerate(reasons) if not reason]
        by_student = await self._logprobs(tools, "", [as_student[i] for i in kept])
        by_teacher = await self._logprobs(tools, self.teacher, [as_teacher[i] for i in kept])
        for i, student_T, teacher_U in zip(kept, by_student, by_teacher, strict=True):
            student = as_student[i], student_T
            judged[i] = self._noted(records[i], student, (as_teacher[i], teacher_U)), ""
        return judged

    def _reason(self, student: Reading, teacher: Reading) -> str:
        if not student.ends_T.size or not teacher.ends_T.size:
            return "no_thought"
        longest = max(student.tokens_T.size, teacher.tokens_T.size)
        return "too_long" if longest > self.max_tokens else ""

    async def _logprobs(self, tools: Tools, path: str, readings: Sequence[Reading]) -> list[Floats]:
        """Log-probs of every thought, its prompt left out."""
        if not readings:
            return []
        reference = await tools.reference(path)
        found: list[Floats] = []
        for batch in _batches([reading.tokens_T for reading in readings], self.batch_tokens):
            found += await reference.logprobs(batch, temperature=1.0)
        pairs = zip(readings, found, strict=True)
        return [logprobs_T[reading.start :] for reading, logprobs_T in pairs]

    def _noted(
        self, record: Candidate, student: tuple[Reading, Floats], teacher: tuple[Reading, Floats]
    ) -> Candidate:
        """The record with log-probs per token of the student, and its sentences."""
        cuts = sentence_cuts(record.think, self.boundary)
        ends_S, ends_U = aligned_ends(cuts, student[0].ends_T, teacher[0].ends_T)
        same = student[0].thought == teacher[0].thought
        teacher_T = teacher[1] if same else spread_means(teacher[1], ends_U, ends_S)
        return replace(
            record,
            student_logprobs_T=student[1],
            teacher_logprobs_T=teacher_T,
            sentence_ends=tuple(ends_S),
        )


def _readings(
    records: Sequence[Candidate], prompts: PromptFormat, *, budgeted: bool
) -> list[Reading]:
    """Every chain as the model of these prompts reads it."""
    thoughts = prompts.token_ends([record.think for record in records])
    readings = []
    for record, (ids_T, ends_T) in zip(records, thoughts, strict=True):
        budget = record.budget if budgeted else NO_BUDGET
        prompt_T = prompts.prompt_ids(record.question, budget, show_budget=budgeted)
        text = tuple(prompts.tokenizer.convert_ids_to_tokens(ids_T.tolist()))
        readings.append(Reading(np.concatenate([prompt_T, ids_T]), prompt_T.size, ends_T, text))
    return readings


def _check_tokens(records: Sequence[Candidate], readings: Sequence[Reading]) -> None:
    for record, reading in zip(records, readings, strict=True):
        if not np.array_equal(reading.tokens_T[reading.start :], record.tokens_T):
            problem = "a chain's tokens are not those that the student's tokenizer makes of it"
            raise DataError(record.question.id, problem, "Make the chains anew.", record.think)


def _batches(sequences: Sequence[Ints], batch_tokens: int) -> Iterator[list[Ints]]:
    """Sequences in order, as many at a time as stay within the tokens, one at least."""
    batch: list[Ints] = []
    for tokens_T in sequences:
        if batch and sum(s.size for s in batch) + tokens_T.size > batch_tokens:
            yield batch
            batch = []
        batch.append(tokens_T)
    if batch:
        yield batch
