"""Correctness of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, StepResult
from bard_ray.records import Outcome


@FILTERS.register("correct")
@dataclass(frozen=True)
class CorrectFilter:
    """Keep chains whose verdict is correct.

    Reasons: the other outcomes (`wrong`, `unparsable`, `timeout`, `broken`), `not_graded`.
    Source: DED.
    """

    REQUIRES: ClassVar[tuple[str, ...]] = ("verdict",)

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Each record by itself."""
        for record in records:
            if record.verdict is None:
                yield record, "not_graded"
            else:
                correct = record.verdict is Outcome.CORRECT
                yield record, "" if correct else record.verdict.value
