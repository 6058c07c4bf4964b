"""The score of a candidate teacher's student, and the choice between candidates.

An answer counts if it is correct and within its budget. Both are required: a student that is
correct because it exceeds its budget is no better than one that keeps its budget and is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bard_ray.distill.diagnostics import Diagnostics, LengthFigures
from bard_ray.errors import InfrastructureError
from bard_ray.records import Group, Outcome, Rollout, Verdict, budget_label, token_limit

NOISE = 2.0  # standard errors that a lead must exceed


@dataclass(frozen=True, slots=True)
class Answer:
    """One graded answer: label of its budget, correct, within the budget, thinking tokens."""

    budget: str
    correct: bool
    within: bool
    tokens: int

    @property
    def counts(self) -> bool:
        """Whether it is correct and within its budget."""
        return self.correct and self.within


Answers = Mapping[str, Sequence[Answer]]  # by question id


@dataclass(frozen=True, slots=True)
class Trial:
    """Answers of a candidate's student, or the reason why there are none."""

    failure: str = ""
    answers: Answers = field(default_factory=dict)


def within_budget(tokens: int, budget: int) -> bool:
    """Whether L - b <= max(1, b / 10): the budget is an upper bound, with the slack of `in_band`.

    Args:
        tokens: L, thinking tokens.
        budget: b, tokens.

    Source: ours.
    """
    return 10 * (tokens - budget) <= max(10, budget)


def answers_by_question(groups: Sequence[Group], expected: int) -> dict[str, list[Answer]]:
    """The answers to each question that was answered at all budgets.

    A question with an answer that was not sampled or not graded is left out, so that means over
    questions are comparable.

    Args:
        groups: graded groups of one sweep over token budgets.
        expected: number of answers to each question.
    """
    answers: dict[str, list[Answer]] = {}
    for group in groups:
        found = answers.setdefault(group.request.question.id, [])
        for rollout, verdict in zip(group.rollouts, group.verdicts, strict=True):
            if verdict.outcome is not Outcome.BROKEN:
                found.append(_answer(rollout, verdict))
    return {name: found for name, found in answers.items() if len(found) == expected}


def _answer(rollout: Rollout, verdict: Verdict) -> Answer:
    limit = token_limit(rollout.budget)
    return Answer(
        budget_label(rollout.budget),
        rollout.closed and verdict.outcome is Outcome.CORRECT,
        limit is None or within_budget(rollout.thinking_tokens, limit),
        rollout.thinking_tokens,
    )


def score(answers: Answers) -> float:
    """Share of the answers that are correct and within their budget, budgets weighted equally.

        mean_b mean_q [ correct_qb and L_qb - b <= max(1, b / 10) ]

    Args:
        answers: equally many of each question at each budget.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: no answers.

    Source: ours; BARD's product of accuracy and fidelity, with fidelity 0 or 1.
    """
    return float(np.mean(_means(answers)))


def mean_and_stderr(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of one value per question and its standard error; None for a single value.

    Source: standard.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    return mean, float(np.std(values, ddof=1) / math.sqrt(len(values)))


def _means(answers: Answers) -> list[float]:
    if not answers:
        raise ValueError("no question was answered")
    return [float(np.mean([a.counts for a in found])) for found in answers.values()]


@dataclass(frozen=True, slots=True)
class CandidateFigures:
    """One candidate. Figures are None where its student was not trained; `failure` says why.

    Attributes:
        rows: of its corpus.
        steps: of its student's training.
        questions: that were answered at all budgets.
        score, stderr: see `score`; the error covers the choice of questions.
        accuracy: share of correct answers, within the budget or not.
        within: share of answers within the budget, correct or not.
        tokens: mean thinking tokens.
        by_budget: the score at each budget.
    """

    name: str
    rows: int
    steps: int
    questions: int = 0
    score: float | None = None
    stderr: float | None = None
    accuracy: float | None = None
    within: float | None = None
    tokens: float | None = None
    by_budget: Mapping[str, float] = field(default_factory=dict)
    diagnostics: Diagnostics | None = None
    failure: str = ""

    @classmethod
    def of(
        cls, name: str, rows: int, steps: int, trial: Trial, diagnostics: Diagnostics | None
    ) -> CandidateFigures:
        """Summary of a trial."""
        if trial.failure:
            return cls(name, rows, steps, diagnostics=diagnostics, failure=trial.failure)
        mean, stderr = mean_and_stderr(_means(trial.answers))
        flat = [answer for found in trial.answers.values() for answer in found]
        budgets = list(dict.fromkeys(answer.budget for answer in flat))
        return cls(
            name=name,
            rows=rows,
            steps=steps,
            questions=len(trial.answers),
            score=mean,
            stderr=stderr,
            accuracy=float(np.mean([answer.correct for answer in flat])),
            within=float(np.mean([answer.within for answer in flat])),
            tokens=float(np.mean([answer.tokens for answer in flat])),
            by_budget={
                b: float(np.mean([answer.counts for answer in flat if answer.budget == b]))
                for b in budgets
            },
            diagnostics=diagnostics,
        )


@dataclass(frozen=True, slots=True)
class TeacherChoice:
    """The result of a smoke test.

    Attributes:
        winner: name of the chosen teacher.
        candidates: in the order of the configuration.
        runner_up: name of the second; empty where no other candidate has a score.
        lead: difference of their scores on the questions that both answered.
        lead_stderr: its standard error, paired by question. It covers the choice of questions, not
            the seed of the training.
        beyond_noise: the lead exceeds `NOISE` standard errors.
    """

    winner: str
    candidates: tuple[CandidateFigures, ...]
    runner_up: str = ""
    lead: float | None = None
    lead_stderr: float | None = None
    beyond_noise: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TeacherChoice:
        """Read what `to_json` returned.

        Raises:
            TypeError, KeyError: the content is something else.
        """
        candidates = tuple(_candidate(entry) for entry in content["candidates"])
        return cls(**{**content, "candidates": candidates})


def choose(figures: Mapping[str, CandidateFigures], trials: Mapping[str, Trial]) -> TeacherChoice:
    """Choose the candidate of the highest score.

    Ties go to the candidate whose student thinks less, then to the first one of the configuration.

    Raises:
        InfrastructureError: no candidate has a score.

    Source: DED takes the teacher of the best student; score and tie-breaking are ours.
    """
    ranked = sorted((c for c in figures.values() if c.score is not None), key=_rank)
    if not ranked:
        reasons = "; ".join(f"{c.name}: {c.failure}" for c in figures.values())
        raise InfrastructureError(f"no teacher can be chosen ({reasons})")
    candidates = tuple(figures.values())
    winner, *others = (c.name for c in ranked)
    if not others:
        return TeacherChoice(winner, candidates)
    lead, stderr = _lead(trials[winner].answers, trials[others[0]].answers)
    beyond = lead is not None and stderr is not None and lead > NOISE * stderr
    return TeacherChoice(winner, candidates, others[0], lead, stderr, beyond)


def _rank(candidate: CandidateFigures) -> tuple[float, float]:
    # Scores are sums of shares: equal scores may differ in their last bits.
    return -round(candidate.score or 0.0, 9), round(candidate.tokens or 0.0, 9)


def _lead(first: Answers, second: Answers) -> tuple[float | None, float | None]:
    """Mean difference over the questions both answered, and its standard error."""
    common = [name for name in first if name in second]
    if not common:
        return None, None
    ours, theirs = (_means({name: a[name] for name in common}) for a in (first, second))
    return mean_and_stderr([a - b for a, b in zip(ours, theirs, strict=True)])


def _candidate(entry: Mapping[str, Any]) -> CandidateFigures:
    found = entry["diagnostics"]
    if found is not None:
        found = Diagnostics(**{**found, "lengths": LengthFigures(**found["lengths"])})
    return CandidateFigures(**{**entry, "diagnostics": found})
