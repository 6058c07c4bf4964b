"""Chains that the teacher finds likely and the student does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, StepResult, by_question
from bard_ray.distill.likelihood import sentence_probabilities
from bard_ray.errors import DataError
from bard_ray.plugins import require_within
from bard_ray.records import Floats


@FILTERS.register("divergence")
@dataclass(frozen=True)
class DivergenceFilter:
    """Keep the `keep` chains of a question with the largest share of teacher sentences.

    A sentence is a teacher sentence where p_T - p_S >= margin; p is the geometric mean of its token
    probabilities, under teacher and student. Ties go to the earlier chain. Reason:
    `little_to_learn`. Source: divergence-aware sampling of DASD; it gives no threshold, margin and
    number are ours.

    Attributes:
        keep: chains per question.
        margin: smallest difference of the probabilities, in [0, 1].
    """

    REQUIRES: ClassVar[tuple[str, ...]] = (
        "teacher_logprobs_T",
        "student_logprobs_T",
        "sentence_ends",
    )

    keep: int = 4
    margin: float = 0.2

    def __post_init__(self) -> None:
        require_within("keep", self.keep, 1)
        require_within("margin", self.margin, 0, 1)

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Question by question; the chains keep their order."""
        for group in by_question(records):
            scores = np.array([self._score(record) for record in group])
            chosen = set(np.argsort(-scores, kind="stable")[: self.keep].tolist())
            for place, record in enumerate(group):
                yield record, "" if place in chosen else "little_to_learn"

    def _score(self, record: Candidate) -> float:
        teacher = _probabilities(record, record.teacher_logprobs_T, "teacher")
        student = _probabilities(record, record.student_logprobs_T, "student")
        return float(np.mean(teacher - student >= self.margin))


def _probabilities(record: Candidate, logprobs_T: Floats | None, whose: str) -> Floats:
    if logprobs_T is None or not record.sentence_ends:
        problem = f"a chain has no log-probs of the {whose}, or no sentences"
        raise DataError(record.question.id, problem, "Put likelihoods before divergence.")
    return sentence_probabilities(logprobs_T, record.sentence_ends)
