"""The student's pass rate on every question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bard_ray.distill.filter import Candidate, StepResult
from bard_ray.distill.identity import digest
from bard_ray.distill.step import STEPS, StepTools
from bard_ray.errors import InfrastructureError
from bard_ray.evals.sweep import sample_graded
from bard_ray.plugins import require_within
from bard_ray.records import (
    NO_BUDGET,
    Budget,
    FailureKind,
    Group,
    GroupRequest,
    Outcome,
    Question,
    SamplingSpec,
    TokenBudget,
)

SEED_DIGITS = 15  # of hex: 60 bits


@STEPS.register("sample_student")
@dataclass(frozen=True)
class SampleStudent:
    """Store the student's pass rate on every question: correct samples / samples.

    Each question is sampled once, however many chains it has; its seed depends on the run's seed
    and its id. Answers that cannot be read, or are missing, are not correct. Reason: `not_sampled`.
    Source: question compression of DED (2508.09883); numbers are ours.

    Attributes:
        samples: per question.
        budget: thinking budget in the student's prompt, tokens; 0: none.
        max_new_tokens: of one sample; limited to what fits into `student.max_len`.
        temperature: 0 is greedy.
    """

    ADDS: ClassVar[tuple[str, ...]] = ("pass_rate",)
    ROLES: ClassVar[tuple[str, ...]] = ("student", "verifier")
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("seed", "student", "tokenizer", "grading")

    samples: int = 8
    budget: int = 0
    max_new_tokens: int = 16_384
    temperature: float = 0.6

    def __post_init__(self) -> None:
        require_within("samples", self.samples, 1)
        require_within("budget", self.budget, 0)
        require_within("max_new_tokens", self.max_new_tokens, 1)
        require_within("temperature", self.temperature, 0)

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        """Sample, grade, and store the rate with all chains of each question.

        Raises:
            InfrastructureError: no question could be sampled because workers were lost.
        """
        questions = list({record.question.id: record.question for record in records}.values())
        spec = SamplingSpec(self.temperature, self.max_new_tokens)
        groups = await sample_graded(
            await tools.student(),
            await tools.verifier(),
            [self._request(i, question, tools.seed) for i, question in enumerate(questions)],
            spec,
            lambda done, total: None,
        )
        _require_any(groups)
        rates = {g.request.question.id: _pass_rate(g) for g in groups if not g.failure}
        return [_with_rate(record, rates.get(record.question.id)) for record in records]

    def _request(self, number: int, question: Question, seed: int) -> GroupRequest:
        budget: Budget = TokenBudget(self.budget) if self.budget else NO_BUDGET
        own_seed = int(digest(["sample_student", seed, question.id])[:SEED_DIGITS], 16)
        return GroupRequest(number, question, (budget,) * self.samples, own_seed)


def _pass_rate(group: Group) -> float:
    correct = sum(verdict.outcome is Outcome.CORRECT for verdict in group.verdicts)
    return correct / len(group.verdicts)


def _with_rate(record: Candidate, rate: float | None) -> StepResult:
    return (record, "not_sampled") if rate is None else (replace(record, pass_rate=rate), "")


def _require_any(groups: Iterable[Group]) -> None:
    """Lost engines or verifiers must not look like questions that cannot be sampled."""
    failures = [group.failure for group in groups]
    lost = [f for f in failures if f is not None and f.kind is not FailureKind.NO_ROOM]
    if lost and all(failures):
        msg = f"the student could not be sampled on any of {len(failures)} questions: {lost[0]}"
        raise InfrastructureError(msg)
