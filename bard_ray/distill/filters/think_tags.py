"""Well-formed think tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, StepResult


@FILTERS.register("think_tags")
@dataclass(frozen=True)
class ThinkTagsFilter:
    """Keep chains with thinking and answer, and without a think tag in either.

    A tag inside would end the student's thinking early, or open it again in the answer. Reasons:
    `no_thought`, `no_answer`, `stray_tag`. Source: DED.
    """

    REQUIRES: ClassVar[tuple[str, ...]] = ("think",)

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Each record by itself."""
        for record in records:
            yield record, _reason(record, (context.think_open, context.think_close))


def _reason(record: Candidate, tags: tuple[str, str]) -> str:
    if not record.think.strip():
        return "no_thought"
    if not record.answer_text.strip():
        return "no_answer"
    stray = any(tag in part for tag in tags for part in (record.think, record.answer_text))
    return "stray_tag" if stray else ""
