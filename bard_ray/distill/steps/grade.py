"""Verdicts of the verifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bard_ray.distill.filter import Candidate, Judged
from bard_ray.distill.step import STEPS, Tools
from bard_ray.records import GradeItem
from bard_ray.regrade import grade_with_retries


@STEPS.register("grade")
@dataclass(frozen=True)
class Grade:
    """Grade every chain's answer; nothing is dropped, see the selection `correct`.

    Attributes:
        at_once: questions of a chunk.
    """

    at_once: int = 256
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("grading",)

    @property
    def questions(self) -> int:
        """A chunk."""
        return self.at_once

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        """The records with their verdicts."""
        items = [GradeItem(r.answer_text, r.question.answer, r.question.kind) for r in records]
        verdicts, _ = await grade_with_retries(await tools.verifier(), items)
        return [
            (replace(record, verdict=verdict.outcome), "")
            for record, verdict in zip(records, verdicts, strict=True)
        ]
