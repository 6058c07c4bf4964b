"""Log-probs of every chain under its teacher and under the student."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bard_ray.data.prompt import PromptFormat
from bard_ray.distill.filter import Candidate, StepResult
from bard_ray.distill.likelihood import aligned_ends, broadcast_means, sentence_boundaries
from bard_ray.distill.step import STEPS, StepTools
from bard_ray.distill.teacher import EngineSpec, prompt_format
from bard_ray.errors import DataError
from bard_ray.plugins import require_within
from bard_ray.records import NO_BUDGET, Floats, Ints


@dataclass(frozen=True, slots=True)
class TokenizedChain:
    """A chain under one model's prompt format.

    Attributes:
        tokens_T: prompt and thinking.
        start: index of the first token of the thinking.
        ends_T: end of each token of the thinking in its text, characters.
        pieces: those tokens as text, to compare with another model's.
    """

    tokens_T: Ints
    start: int
    ends_T: Ints
    pieces: tuple[str, ...]


@STEPS.register("likelihoods")
@dataclass(frozen=True)
class Likelihoods:
    """Store log-probs of every chain under teacher and student, and its sentence ends.

    Each model sees the thinking after its own prompt: its chat template and open think tag; the
    student's contains the budget where the chain has one. Where the teacher tokenizes the text
    differently, every student token of a sentence gets the mean log-prob of the teacher's own
    tokens of that sentence: p_T of a sentence is exact, p_T of a token is not known. Reasons:
    `no_thought`, `too_long`. Source: sentence scores of DASD (2601.09088); sentences and the
    mapping between tokenizers are ours.

    Attributes:
        teacher: model directory or hub id of the model that wrote the chains.
        boundary: regular expression; a sentence ends where a match ends.
        max_tokens: longest prompt plus thinking, tokens of either model; `learner.pack_len` must
            hold it.
        batch_tokens: tokens sent to a model in one call.
        think_open: opening think tag of the teacher.
        think_close: its closing one.
    """

    REQUIRES: ClassVar[tuple[str, ...]] = ("think",)
    ADDS: ClassVar[tuple[str, ...]] = (
        "teacher_logprobs_T",
        "student_logprobs_T",
        "sentence_ends",
    )
    ROLES: ClassVar[tuple[str, ...]] = ("reference",)
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

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        """Score all chains with the student, then with the teacher: one reference may serve both.

        Raises:
            ConfigError: a tokenizer cannot be read, or has no text offsets.
            DataError: a chain's tokens are not those of its text.
        """
        spec = EngineSpec(self.teacher, think_open=self.think_open, think_close=self.think_close)
        teacher = await asyncio.to_thread(prompt_format, self.teacher, spec)
        as_student = await asyncio.to_thread(_tokenize, records, tools.prompts, budgeted=True)
        as_teacher = await asyncio.to_thread(_tokenize, records, teacher, budgeted=False)
        _check_tokens(records, as_student)
        reasons = [self._reason(*pair) for pair in zip(as_student, as_teacher, strict=True)]
        results: list[StepResult] = list(zip(records, reasons, strict=True))
        kept = [i for i, reason in enumerate(reasons) if not reason]
        by_student = await self._logprobs(tools, "", [as_student[i] for i in kept])
        by_teacher = await self._logprobs(tools, self.teacher, [as_teacher[i] for i in kept])
        for i, student_T, teacher_U in zip(kept, by_student, by_teacher, strict=True):
            student = as_student[i], student_T
            results[i] = self._with_logprobs(records[i], student, (as_teacher[i], teacher_U)), ""
        return results

    def _reason(self, student: TokenizedChain, teacher: TokenizedChain) -> str:
        if not student.ends_T.size or not teacher.ends_T.size:
            return "no_thought"
        longest = max(student.tokens_T.size, teacher.tokens_T.size)
        return "too_long" if longest > self.max_tokens else ""

    async def _logprobs(
        self, tools: StepTools, path: str, chains: Sequence[TokenizedChain]
    ) -> list[Floats]:
        """Log-probs of the thinking of every chain."""
        if not chains:
            return []
        reference = await tools.reference(path)
        found: list[Floats] = []
        for batch in _batches([chain.tokens_T for chain in chains], self.batch_tokens):
            found += await reference.logprobs(batch, temperature=1.0)
        pairs = zip(chains, found, strict=True)
        return [logprobs_T[chain.start :] for chain, logprobs_T in pairs]

    def _with_logprobs(
        self,
        record: Candidate,
        student: tuple[TokenizedChain, Floats],
        teacher: tuple[TokenizedChain, Floats],
    ) -> Candidate:
        """The record with log-probs per token of the student, and its sentence ends."""
        boundaries = sentence_boundaries(record.think, self.boundary)
        ends_S, ends_U = aligned_ends(boundaries, student[0].ends_T, teacher[0].ends_T)
        same = student[0].pieces == teacher[0].pieces
        teacher_T = teacher[1] if same else broadcast_means(teacher[1], ends_U, ends_S)
        return replace(
            record,
            student_logprobs_T=student[1],
            teacher_logprobs_T=teacher_T,
            sentence_ends=tuple(ends_S),
        )


def _tokenize(
    records: Sequence[Candidate], prompts: PromptFormat, *, budgeted: bool
) -> list[TokenizedChain]:
    """Every chain under a prompt format, with its budget in the prompt if `budgeted`."""
    encoded = prompts.token_ends([record.think for record in records])
    chains = []
    for record, (ids_T, ends_T) in zip(records, encoded, strict=True):
        budget = record.budget if budgeted else NO_BUDGET
        prompt_T = prompts.prompt_ids(record.question, budget, show_budget=budgeted)
        pieces = tuple(prompts.tokenizer.convert_ids_to_tokens(ids_T.tolist()))
        tokens_T = np.concatenate([prompt_T, ids_T])
        chains.append(TokenizedChain(tokens_T, prompt_T.size, ends_T, pieces))
    return chains


def _check_tokens(records: Sequence[Candidate], chains: Sequence[TokenizedChain]) -> None:
    for record, chain in zip(records, chains, strict=True):
        if not np.array_equal(chain.tokens_T[chain.start :], record.tokens_T):
            problem = "a chain's tokens are not those that the student's tokenizer makes of it"
            fix = "Delete distill.store; the chains are tokenized again."
            raise DataError(record.question.id, problem, fix, record.think)


def _batches(sequences: Sequence[Ints], batch_tokens: int) -> Iterator[list[Ints]]:
    """Sequences in order, as many at a time as stay within `batch_tokens`, at least one."""
    batch: list[Ints] = []
    for tokens_T in sequences:
        if batch and sum(s.size for s in batch) + tokens_T.size > batch_tokens:
            yield batch
            batch = []
        batch.append(tokens_T)
    if batch:
        yield batch
