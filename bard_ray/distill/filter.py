"""Filters: steps of the data pipeline that only drop records.

A filter is a file of `bard_ray.distill.filters` with one frozen dataclass, or the user's own as
`module:Class`. It returns every record of its input with a reason to drop it, or with none.
Filters are pure and deterministic: equal records give equal results.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bard_ray.errors import DataError
from bard_ray.plugins import Registry
from bard_ray.records import NO_BUDGET, Budget, Floats, Ints, Outcome, Question


@dataclass(frozen=True, slots=True)
class Candidate:
    """One chain on its way through the pipeline, or a question that has no chain yet.

    Attributes:
        question: what the chain answers.
        think: text between the think tags.
        answer_text: text after them.
        tokens_T: `think` as token ids of the student.
        budget: what the chain was compressed to; none for a chain as its teacher wrote it.
        attempts: texts that a compressor requested from its writer for this chain.
        origin: name of the teacher that wrote it.
        verdict: the verifier's; None if the chain was not graded.
        pass_rate: share of the student's samples on this question that are correct, in [0, 1];
            None if the student was not sampled.
        teacher_logprobs_T, student_logprobs_T: of `tokens_T` under either model, or None.
        sentence_ends: index after the last token of each sentence, ascending; the last one is T.
    """

    question: Question
    think: str
    answer_text: str
    tokens_T: Ints
    budget: Budget = NO_BUDGET
    attempts: int = 0
    origin: str = ""
    verdict: Outcome | None = None
    pass_rate: float | None = None
    teacher_logprobs_T: Floats | None = None
    student_logprobs_T: Floats | None = None
    sentence_ends: tuple[int, ...] = ()


StepResult = tuple[Candidate, str]  # a record and the reason why it is dropped; empty: it is kept
Counters = defaultdict[str, float]  # figures of a plug-in by name; those of all chunks are summed


def new_counters() -> Counters:
    """Counters that all start at 0."""
    return defaultdict(float)


@dataclass(frozen=True, slots=True)
class FilterContext:
    """What filters may use besides the records.

    Attributes:
        evaluation: texts of all questions that the student will be evaluated on.
        think_open, think_close: the student's think tags.
        counters: a filter's own figures for the data report: `context.counters["seen"] += 1`.
    """

    evaluation: Sequence[str] = ()
    think_open: str = "<think>"
    think_close: str = "</think>"
    counters: Counters = field(default_factory=new_counters)


class Filter(Protocol):
    """One filter. What it requires, and whether it compares questions, is in its `Traits`."""

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Yield every record once, in order, with the reason to drop it or an empty one.

        A reason is a fixed word such as `too_long`, so that reasons can be counted.

        Args:
            records: the chains of one question follow each other.
            context: what it may use.
        """
        ...


FILTERS: Registry[Filter] = Registry("distill.steps", "bard_ray.distill.filters", method="apply")


def by_question(records: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    """Yield the chains of one question after those of another.

    Raises:
        DataError: the chains of a question do not follow each other.
    """
    seen: set[str] = set()
    for item_id, group in itertools.groupby(records, key=lambda record: record.question.id):
        if item_id in seen:
            fix = "Sort the records by question."
            raise DataError(item_id, "its chains do not follow each other", fix)
        seen.add(item_id)
        yield list(group)
