"""The last step: chains at several budgets, as `distill.compressor` and `.allocation` say."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bard_ray.distill.compressor import (
    BudgetAllocation,
    Compressed,
    Compressor,
    CompressorTools,
    FittedAllocation,
    Reason,
    chooses_budget,
    fit_allocation,
)
from bard_ray.distill.filter import Candidate, Judged
from bard_ray.distill.identity import digest
from bard_ray.distill.step import Tools
from bard_ray.records import Budget, GradeItem, TokenBudget, Verdict
from bard_ray.regrade import grade_with_retries


@dataclass(frozen=True)
class Compress:
    """Make `count` records of each chain, each at a budget of its own.

    Reasons: those of the compressor (`bard_ray.distill.compressor.Reason`); `spare`, the question
    has a chain at that budget already, or `count` of them. Source: BARD, the same question at
    several budgets.

    Attributes:
        compressor: shortens.
        allocation: chooses the budgets.
        count: budgets a chain.
        writer: the teacher that rewrites; empty: none.
        at_once: questions of a chunk.
    """

    compressor: Compressor
    allocation: BudgetAllocation
    count: int
    writer: str = ""
    at_once: int = 256
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("seed", "tokenizer", "budgets", "grading", "writer")

    @property
    def questions(self) -> int:
        """A chunk; all at once where the allocation goes by the lengths of all chains."""
        return 0 if isinstance(self.allocation, FittedAllocation) else self.at_once

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        """All chains at once; the writer bounds what it takes on."""
        allocation = fit_allocation(self.allocation, [record.tokens_T.size for record in records])
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._one(record, place, allocation, tools))
                for place, record in _numbered(records)
            ]
        tries = [
            (record, one)
            for record, task in zip(records, tasks, strict=True)
            for one in task.result()
            if one.reason != Reason.OTHER_BUDGET
        ]
        thoughts = tools.prompts.text_ids([one.think for _, one in tries])
        made: list[Judged] = [
            (_candidate(record, one, tokens_T), str(one.reason))
            for (record, one), tokens_T in zip(tries, thoughts, strict=True)
        ]
        return self._first_of_each(made) if chooses_budget(self.compressor) else made

    def _first_of_each(self, made: Sequence[Judged]) -> list[Judged]:
        """Chains that found their budgets themselves: one a budget and `count` a question.

        Where budgets are drawn instead, two chains at one budget are two ways to keep to it.
        """
        taken: dict[str, set[Budget]] = defaultdict(set)
        judged: list[Judged] = []
        for record, reason in made:
            budgets = taken[record.question.id]
            spare = record.budget in budgets or len(budgets) >= self.count
            if not reason and spare:
                judged.append((record, str(Reason.SPARE)))
                continue
            if not reason:
                budgets.add(record.budget)
            judged.append((record, reason))
        return judged

    async def _one(
        self, record: Candidate, place: int, allocation: BudgetAllocation, tools: Tools
    ) -> list[Compressed]:
        """One chain; its random numbers follow from run, question and its place there."""
        seed = int(digest([tools.seed, record.question.id, place]), 16)
        generator = np.random.default_rng(seed)

        async def grade(items: Sequence[GradeItem]) -> list[Verdict]:
            verdicts, _ = await grade_with_retries(await tools.verifier(), items)
            return list(verdicts)

        writer = await tools.teacher(self.writer) if self.writer else None
        budgets: Sequence[int] = tools.taught
        if not chooses_budget(self.compressor):
            budgets = allocation.choose(record.tokens_T.size, tools.taught, self.count, generator)
        bench = CompressorTools(writer, tools.prompts.count_tokens, grade, generator)
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
