"""The score of a candidate's student, and the choice between candidates.

An answer counts where it is right and kept to its budget. Both at once: a student that is right
because it overspends is no better than one that keeps to its budget and is wrong.
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

NOISE = 2.0  # standard errors that a lead has to exceed


@dataclass(frozen=True, slots=True)
class Answer:
    """One graded answer: its budget's label, right, within the budget, thinking tokens."""

    budget: str
    correct: bool
    within: bool
    tokens: int

    @property
    def counts(self) -> bool:
        """Right and within its budget."""
        return self.correct and self.within


Answers = Mapping[str, Sequence[Answer]]  # of each question, by its id


@dataclass(frozen=True, slots=True)
class Trial:
    """How a candidate's student did: why it could not be told, or its answers."""

    failure: str = ""
    answers: Answers = field(default_factory=dict)


def within_budget(tokens: int, budget: int) -> bool:
    """L - b <= max(1, b / 10): the budget is an upper bound, with the slack of `in_band`.

    Args:
        tokens: L, thinking tokens.
        budget: b, tokens.

    Source: ours.
    """
    return 10 * (tokens - budget) <= max(10, budget)


def answers_by_question(groups: Sequence[Group], expected: int) -> dict[str, list[Answer]]:
    """The answers to each question that was answered at all budgets.

    A question with an answer that was not sampled or not graded is left out: the mean over the
    others compares like with like.

    Args:
        groups: graded groups of one sweep over token budgets.
        expected: answers to a question.
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
    """Share of the answers that are right and within their budget, each budget with equal weight.

        mean_b mean_q [ right_qb and L_qb - b <= max(1, b / 10) ]

    Args:
        answers: equally many of each question, one budget like the other.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: no answers.

    Source: ours; BARD's product of accuracy and fidelity, with fidelity 0 or 1.
    """
    return float(np.mean(_means(answers)))


def mean_and_stderr(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of one value a question and its standard error; None for a single value.

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
    """One candidate. Figures are None where it was not tried; then `failure` says why.

    Attributes:
        rows: of its corpus.
        steps: of its student's training.
        questions: that were answered at all budgets.
        score, stderr: see `score`; the error is that of the choice of questions.
        accuracy: share of right answers, within the budget or not.
        within: share of answers within the budget, right or not.
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
    """Who won the smoke test, and by how much.

    Attributes:
        winner: name of the teacher.
        runner_up: name of the second; empty where nobody else was tried.
        lead: difference of their scores on the questions that both answered, and
        lead_stderr: its standard error, paired by question. It holds the choice of questions, not
            that of the training's seed.
        beyond_noise: the lead exceeds `NOISE` standard errors.
        candidates: in the order of the configuration.
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
        """What `to_json` gave.

        Raises:
            TypeError, KeyError: it is something else.
        """
        candidates = tuple(_candidate(entry) for entry in content["candidates"])
        return cls(**{**content, "candidates": candidates})


def choose(figures: Mapping[str, CandidateFigures], trials: Mapping[str, Trial]) -> TeacherChoice:
    """The candidate of the highest score; of equals the one whose student thinks less.

    Still equal: the first one of the configuration.

    Raises:
        InfrastructureError: no candidate has a score.

    Source: DED takes the teacher of the best student; score and ties are ours.
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
    # Scores are sums of shares: the same score may differ in its last bits.
    return -round(candidate.score or 0.0, 9), round(candidate.tokens or 0.0, 9)


def _lead(first: Answers, second: Answers) -> tuple[float | None, float | None]:
    """Mean difference over the questions both answered, and its standard error."""
    common = [name for name in first if name in second]
    if not common:
        return None, None
    ours, theirs = (_means({name: a[name] for name in common}) for a in (first, second))
    return mean_and_stderr([a - b for a, b in zip(ours, theirs, strict=True)])


def _candidate(entry: Mapping[str, Any]) -> CandidateFigures:
    told = entry["diagnostics"]
    if told is not None:
        told = Diagnostics(**{**told, "lengths": LengthFigures(**told["lengths"])})
    return CandidateFigures(**{**entry, "diagnostics": told})
