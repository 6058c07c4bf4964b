"""The last step: chains at several budgets, by `distill.compressor` and `distill.allocation`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bard_ray.distill.allocation import BudgetAllocation, FittedAllocation, fit_allocation
from bard_ray.distill.compressor import (
    Compressed,
    Compressor,
    CompressorTools,
    Reason,
    own_budgets,
)
from bard_ray.distill.filter import Candidate, StepResult
from bard_ray.distill.identity import digest
from bard_ray.distill.step import CHUNK_QUESTIONS, StepTools
from bard_ray.records import Budget, GradeItem, TokenBudget, Verdict
from bard_ray.regrade import grade_with_retries


@dataclass(frozen=True)
class Compress:
    """Make `count` records of each chain, at different budgets.

    Reasons: those of the compressor (`bard_ray.distill.compressor.Reason`); `spare`, where the
    compressor picks the budgets: the question already has a chain at that budget, or `count` of
    them. Source: BARD, the same question at several budgets.

    Attributes:
        compressor: shortens chains.
        allocation: chooses the budgets, unless the compressor does.
        count: budgets per chain; per question where the compressor picks the budgets.
        writer: the teacher that rewrites; empty: none.
    """

    compressor: Compressor
    allocation: BudgetAllocation
    count: int
    writer: str = ""
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("seed", "tokenizer", "budgets", "grading", "writer")

    @property
    def chunk_questions(self) -> int:
        """All questions at once where the allocation depends on the lengths of all chains."""
        return 0 if isinstance(self.allocation, FittedAllocation) else CHUNK_QUESTIONS

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        """All chains concurrently; the writer limits what it works on."""
        allocation = fit_allocation(self.allocation, [record.tokens_T.size for record in records])
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._one(record, place, allocation, tools))
                for place, record in _numbered(records)
            ]
        tried = [
            (record, result)
            for record, task in zip(records, tasks, strict=True)
            for result in task.result()
            if result.reason != Reason.OTHER_BUDGET
        ]
        ids = tools.prompts.text_ids([result.think for _, result in tried])
        results: list[StepResult] = [
            (_candidate(record, result, tokens_T), str(result.reason))
            for (record, result), tokens_T in zip(tried, ids, strict=True)
        ]
        return self._without_spares(results) if own_budgets(self.compressor) else results

    def _without_spares(self, results: Sequence[StepResult]) -> list[StepResult]:
        """Of chains whose compressor picked the budget: one per budget, `count` per question.

        Where the allocation draws the budgets instead, two chains of a question at one budget are
        both kept: they show two ways to use it.
        """
        taken: dict[str, set[Budget]] = defaultdict(set)
        checked: list[StepResult] = []
        for record, reason in results:
            budgets = taken[record.question.id]
            spare = record.budget in budgets or len(budgets) >= self.count
            if not reason and spare:
                checked.append((record, str(Reason.SPARE)))
                continue
            if not reason:
                budgets.add(record.budget)
            checked.append((record, reason))
        return checked

    async def _one(
        self, record: Candidate, place: int, allocation: BudgetAllocation, tools: StepTools
    ) -> list[Compressed]:
        """One chain; its random numbers depend on run, question and its place there."""
        seed = int(digest([tools.seed, record.question.id, place]), 16)
        generator = np.random.default_rng(seed)

        async def grade(items: Sequence[GradeItem]) -> list[Verdict]:
            verdicts, _ = await grade_with_retries(await tools.verifier(), items)
            return list(verdicts)

        writer = await tools.teacher(self.writer) if self.writer else None
        budgets: Sequence[int] = tools.train_budgets
        if not own_budgets(self.compressor):
            length = record.tokens_T.size
            budgets = allocation.choose(length, tools.train_budgets, self.count, generator)
        own = CompressorTools(writer, tools.prompts.count_tokens, grade, generator, tools.counters)
        return await self.compressor.compress(record, budgets, own)


def _numbered(records: Sequence[Candidate]) -> list[tuple[int, Candidate]]:
    """Every record with its place among those of its question."""
    seen: dict[str, int] = {}
    numbered = []
    for record in records:
        place = seen.get(record.question.id, 0)
        seen[record.question.id] = place + 1
        numbered.append((place, record))
    return numbered


def _candidate(record: Candidate, result: Compressed, tokens_T: np.ndarray) -> Candidate:
    return replace(
        record,
        think=result.think,
        answer_text=result.answer_text,
        tokens_T=tokens_T,
        budget=TokenBudget(result.budget),
        attempts=result.attempts,
        teacher_logprobs_T=None,
        student_logprobs_T=None,
        sentence_ends=(),
    )
