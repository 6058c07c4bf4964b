"""Selections: stages that look at chains and drop some of them.

A stage is a file of `bard_ray.distill.filters` with one frozen dataclass, or the user's own as
`module:Class`. It judges every record of its input and gives a reason for each one it drops; the
pipeline counts. Stages are pure and deterministic: same records, same verdicts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bard_ray.errors import DataError
from bard_ray.plugins import Registry
from bard_ray.records import NO_BUDGET, Budget, Floats, Ints, Outcome, Question


@dataclass(frozen=True, slots=True)
class Candidate:
    """One chain on its way through the pipeline, or a question that has none yet.

    Attributes:
        question: what it answers.
        think: text between the think tags.
        answer_text: text after them.
        tokens_T: the thinking as token ids of the student.
        budget: what the chain was compressed to; none: it is as its teacher wrote it.
        attempts: texts asked of a compressor's model for it.
        origin: who wrote it.
        verdict: of the verifier; None: not graded.
        pass_rate: share of the student's samples on this question that are correct, in [0, 1];
            None: not sampled.
        teacher_logprobs_T, student_logprobs_T: of `tokens_T` under either model; None: not asked.
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


@dataclass(frozen=True, slots=True)
class FilterContext:
    """What stages need beside the records.

    Attributes:
        evaluation: texts of all questions the student will be evaluated on.
        think_open, think_close: the student's think tags.
    """

    evaluation: Sequence[str] = ()
    think_open: str = "<think>"
    think_close: str = "</think>"


Judged = tuple[Candidate, str]  # a record and why it is dropped, empty: it is kept


class Filter(Protocol):
    """One selection."""

    def judge(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[Judged]:
        """Every record once, with the reason to drop it, or an empty one to keep it.

        A reason is a fixed word such as `too_long`, so that reasons can be counted.
        """
        ...


FILTERS: Registry[Filter] = Registry("distill.curate", "bard_ray.distill.filters", method="judge")


def by_question(records: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    """The chains of one question after those of another.

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
