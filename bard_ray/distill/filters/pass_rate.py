"""Questions of the right difficulty for the student."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, StepResult
from bard_ray.plugins import require_within


@FILTERS.register("pass_rate")
@dataclass(frozen=True)
class PassRateFilter:
    """Keep questions with min_rate <= p <= max_rate, p the student's pass rate.

    Reasons: `too_easy`, `too_hard`, `not_sampled`. Source: DED ("question compression") drops
    questions above a threshold that is not public; both numbers are ours.

    Attributes:
        min_rate: lowest pass rate; 0 keeps questions that the student never solves.
        max_rate: highest pass rate.
    """

    REQUIRES: ClassVar[tuple[str, ...]] = ("pass_rate",)

    min_rate: float = 0.0
    max_rate: float = 0.75

    def __post_init__(self) -> None:
        require_within("min_rate", self.min_rate, 0, 1)
        require_within("max_rate", self.max_rate, self.min_rate, 1)

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Each record by its question."""
        for record in records:
            yield record, self._reason(record.pass_rate)

    def _reason(self, rate: float | None) -> str:
        if rate is None:
            return "not_sampled"
        if rate > self.max_rate:
            return "too_easy"
        return "too_hard" if rate < self.min_rate else ""
