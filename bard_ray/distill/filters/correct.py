"""Correctness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, Judged
from bard_ray.records import Outcome


@FILTERS.register("correct")
@dataclass(frozen=True)
class Correct:
    """Keep chains whose answer the verifier judged correct.

    Reasons: the other outcomes (`wrong`, `unparsable`, `timeout`, `broken`), `not_graded`.
    Source: DED.
    """

    def judge(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[Judged]:
        """Judge each record by itself."""
        for record in records:
            if record.verdict is None:
                yield record, "not_graded"
            else:
                correct = record.verdict is Outcome.CORRECT
                yield record, "" if correct else record.verdict.value
