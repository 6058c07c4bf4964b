"""Chains at several budgets: the last step, set by `distil.compressor` and `distil.spread`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bard_ray.budget.signal import TokenBudget
from bard_ray.distill.compressor import (
    Compressed,
    Compressor,
    Fitting,
    Spread,
    Workbench,
    chooses_budget,
    fitted,
)
from bard_ray.distill.identity import digest
from bard_ray.distill.stage import Candidate, Judged
from bard_ray.distill.step import Tools
from bard_ray.records import GradeItem, Verdict
from bard_ray.verify.regrade import grade_surely


@dataclass(frozen=True)
class Compress:
    """Make `count` records of each chain, each at a budget of its own.

    Reasons: those of the compressor. Source: BARD, the same question at several budgets.

    Attributes:
        compressor: shortens.
        spread: chooses the budgets.
        count: budgets a chain.
        writer: the teacher that rewrites; empty: none.
        at_once: questions of a chunk.
    """

    compressor: Compressor
    spread: Spread
    count: int
    writer: str = ""
    at_once: int = 256
    USES: ClassVar[tuple[str, ...]] = ("seed", "tokenizer", "budgets", "grading", "writer")

    @property
    def questions(self) -> int:
        """A chunk; all at once where the spread goes by the lengths of all chains."""
        return 0 if isinstance(self.spread, Fitting) else self.at_once

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        """All chains at once; the writer bounds what it takes on."""
        spread = fitted(self.spread, [record.tokens_T.size for record in records])
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._one(record, place, spread, tools))
                for place, record in _numbered(records)
            ]
        tries = [(record, task.result()) for record, task in zip(records, tasks, strict=True)]
        thoughts = tools.prompts.text_ids([one.think for _, made in tries for one in made])
        ids = iter(thoughts)
        return [(_candidate(r, one, next(ids)), one.reason) for r, made in tries for one in made]

    async def _one(
        self, record: Candidate, place: int, spread: Spread, tools: Tools
    ) -> list[Compressed]:
        """One chain; its random numbers follow from run, question and its place there."""
        seed = int(digest([tools.seed, record.question.id, place]), 16)
        generator = np.random.default_rng(seed)

        async def grade(items: Sequence[GradeItem]) -> list[Verdict]:
            verdicts, _ = await grade_surely(await tools.verifier(), items)
            return list(verdicts)

        writer = await tools.teacher(self.writer) if self.writer else None
        budgets: Sequence[int] = tools.taught
        if not chooses_budget(self.compressor):
            budgets = spread.choose(record.tokens_T.size, tools.taught, self.count, generator)
        bench = Workbench(writer, tools.prompts.count_tokens, grade, generator)
        return await self.compressor.compress(record, budgets, bench)


def _numbered(records: Sequence[Candidate]) -> list[tuple[int, Candidate]]:
    """Every record with its place among those of its question."""
    seen: dict[str, int] = {}
    numbered = []
    for record in records:
        place = seen.get(record.question.id, 0)
        seen[record.question.id] = place + 1
        numbered.append((place, record))
    return numbered


def _candidate(record: Candidate, one: Compressed, tokens_T: np.ndarray) -> Candidate:
    return replace(
        record,
        think=one.think,
        answer_text=one.answer_text,
        tokens_T=tokens_T,
        budget=TokenBudget(one.budget),
        attempts=one.attempts,
        teacher_logprobs_T=None,
        student_logprobs_T=None,
        sentence_ends=(),
    )
