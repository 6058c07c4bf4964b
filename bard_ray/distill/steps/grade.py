"""Verdicts of the verifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bard_ray.distill.filter import Candidate, StepResult
from bard_ray.distill.step import STEPS, StepTools
from bard_ray.plugins import require_within
from bard_ray.records import GradeItem
from bard_ray.regrade import grade_with_retries


@STEPS.register("grade")
@dataclass(frozen=True)
class Grade:
    """Grade every chain's answer; nothing is dropped, see the filter `correct`.

    Attributes:
        chunk_questions: questions graded at a time.
    """

    chunk_questions: int = 256
    REQUIRES: ClassVar[tuple[str, ...]] = ("think",)
    ADDS: ClassVar[tuple[str, ...]] = ("verdict",)
    ROLES: ClassVar[tuple[str, ...]] = ("verifier",)
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("grading",)

    def __post_init__(self) -> None:
        require_within("chunk_questions", self.chunk_questions, 1)

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        """The records with their verdicts."""
        items = [GradeItem(r.answer_text, r.question.answer, r.question.kind) for r in records]
        verdicts, _ = await grade_with_retries(await tools.verifier(), items)
        return [
            (replace(record, verdict=verdict.outcome), "")
            for record, verdict in zip(records, verdicts, strict=True)
        ]
