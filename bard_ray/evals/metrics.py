"""Budget adherence and accuracy, one equation per function, and the summary of one variant.

L is the thinking length in tokens (`Rollout.thinking_tokens`), b the token budget. A rollout that
never closes its thinking is wrong, and its length is all it sampled. A BROKEN verdict is an
infrastructure failure: its rollout is left out of every mean and counted separately.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bard_ray.records import Budget, Group, Outcome, Rollout, Verdict, budget_label, token_limit

Doubles = NDArray[np.float64]


class PointSummary(TypedDict):
    """One budget of one variant.

    Fields are None where the budget has no number of tokens, or where nothing was graded.
    """

    mean_length: float | None
    rel_err: float | None
    in_band: float | None
    overrun: float | None
    accuracy: float | None
    p10: float | None
    p50: float | None
    p90: float | None
    n: int
    stderr: float | None
    acc2_per_token: float | None
    broken: int


class VariantSummary(TypedDict):
    """One variant: unweighted means over its token budgets, and the summary of every budget.

    `broken` counts rollouts that could not be graded, `failed` groups without rollouts.
    """

    rel_err: float | None
    in_band: float | None
    overrun: float | None
    accuracy: float | None
    broken: int
    failed: int
    by_budget: dict[str, PointSummary]


def rel_err(lengths: ArrayLike, budget: int) -> float:
    """Mean relative deviation from the budget.

        mean |L - b| / b

    Args:
        lengths: thinking tokens, shape [n].
        budget: tokens, at least 1.

    Returns:
        A number >= 0.

    Raises:
        ValueError: no lengths, or a budget below 1.

    Source: L1 (arXiv 2503.04697), mean deviation.
    """
    lengths_n = _lengths(lengths, budget)
    return float(np.mean(np.abs(lengths_n - budget)) / budget)


def in_band(lengths: ArrayLike, budget: int) -> float:
    """Share of rollouts whose length is within 10 % of the budget.

        mean [ |L - b| <= max(1, 0.1 b) ]

    Args:
        lengths: thinking tokens, shape [n].
        budget: tokens, at least 1.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: no lengths, or a budget below 1.

    Source: ours; a deviation of one token is allowed for budgets below 10.
    """
    lengths_n = _lengths(lengths, budget)
    # 10 |L - b| <= max(10, b) is the same rule in integers: in floating point, 0.1 * 30 is not 3.
    return float(np.mean(10 * np.abs(lengths_n - budget) <= max(10, budget)))


def overrun(lengths: ArrayLike, budget: int) -> float:
    """Share of rollouts that are longer than the budget.

        mean [ L > b ]

    Args:
        lengths: thinking tokens, shape [n].
        budget: tokens, at least 1.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: no lengths, or a budget below 1.

    Source: L1 (arXiv 2503.04697), budget violation rate.
    """
    return float(np.mean(_lengths(lengths, budget) > budget))


def accuracy(correct: ArrayLike) -> float:
    """Share of rollouts that are correct.

    Args:
        correct: booleans, shape [n].

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: no rollouts.

    Source: standard.
    """
    return float(np.mean(_non_empty(correct)))


def acc2_per_token(accuracy_share: float, mean_length: float) -> float | None:
    """Accuracy squared per thinking token (E3); None where the mean length is 0.

        a^2 / mean L

    Args:
        accuracy_share: a, in [0, 1].
        mean_length: mean thinking tokens.

    Returns:
        A number >= 0 in 1/tokens.

    Source: Plan-and-Budget (arXiv 2505.16122), E3.
    """
    return accuracy_share**2 / mean_length if mean_length > 0 else None


def percentiles(lengths: ArrayLike) -> tuple[float, float, float]:
    """10th, 50th and 90th percentile of thinking lengths, in tokens, with linear interpolation.

    Args:
        lengths: thinking tokens, shape [n].

    Raises:
        ValueError: no lengths.

    Source: standard.
    """
    p10, p50, p90 = np.percentile(_non_empty(lengths), [10, 50, 90])
    return float(p10), float(p50), float(p90)


def clustered_stderr(correct: ArrayLike, questions: Sequence[Hashable]) -> float:
    """Standard error of the accuracy, clustered by question.

        (1/n) sqrt( sum_q ( sum_{i in q} (c_i - mean c) )^2 )

    With one answer for each question this is sqrt(a (1 - a) / n).

    Args:
        correct: booleans, shape [n].
        questions: question of each answer, length n.

    Returns:
        A number >= 0.

    Raises:
        ValueError: no answers, or their number differs from that of the questions.

    Source: Miller, Adding Error Bars to Evals (arXiv 2411.00640), clustered standard errors.
    """
    correct_n = _non_empty(correct)
    if len(questions) != correct_n.size:
        msg = f"{correct_n.size} answers but {len(questions)} questions"
        raise ValueError(msg)
    residuals: dict[Hashable, float] = defaultdict(float)
    for question, residual in zip(questions, correct_n - correct_n.mean(), strict=True):
        residuals[question] += float(residual)
    return float(np.sqrt(sum(r * r for r in residuals.values())) / correct_n.size)


def summarize(groups: Sequence[Group]) -> VariantSummary:
    """Summary of one variant from its graded groups, as written to `results.json`.

    The top-level rates are means over the token budgets, so every budget has the same weight
    whatever its number of rollouts. Other budgets (`none`, modes) appear in `by_budget` only,
    without adherence.

    Args:
        groups: graded groups, in any order; a failed group is counted.

    Raises:
        ValueError: a group has rollouts without verdicts.

    Source: ours.
    """
    samples = _by_budget(groups)
    points = {
        budget_label(budget): _point(budget, samples[budget])
        for budget in sorted(samples, key=_budget_order)
    }
    measured = [
        points[budget_label(budget)] for budget in samples if token_limit(budget) is not None
    ]
    return VariantSummary(
        rel_err=_mean_or_none([p["rel_err"] for p in measured]),
        in_band=_mean_or_none([p["in_band"] for p in measured]),
        overrun=_mean_or_none([p["overrun"] for p in measured]),
        accuracy=_mean_or_none([p["accuracy"] for p in measured]),
        broken=sum(p["broken"] for p in points.values()),
        failed=sum(1 for group in groups if group.failure),
        by_budget=points,
    )


_Sample = tuple[str, Rollout, Verdict]


def _by_budget(groups: Sequence[Group]) -> dict[Budget, list[_Sample]]:
    """Rollouts of all groups by budget, each with its question's id and its verdict."""
    samples: dict[Budget, list[_Sample]] = defaultdict(list)
    for group in groups:
        if len(group.verdicts) != len(group.rollouts):
            counts = f"{len(group.rollouts)} rollouts and {len(group.verdicts)} verdicts"
            msg = f"group {group.number} has {counts}"
            raise ValueError(msg)
        for rollout, verdict in zip(group.rollouts, group.verdicts, strict=True):
            samples[rollout.budget].append((group.request.question.id, rollout, verdict))
    return samples


def _point(budget: Budget, samples: Sequence[_Sample]) -> PointSummary:
    """Summary of the rollouts of one budget."""
    graded = [s for s in samples if s[2].outcome is not Outcome.BROKEN]
    broken = len(samples) - len(graded)
    if not graded:
        return _empty_point(broken)
    lengths = [rollout.thinking_tokens for _, rollout, _ in graded]
    correct = [
        rollout.closed and verdict.outcome is Outcome.CORRECT for _, rollout, verdict in graded
    ]
    p10, p50, p90 = percentiles(lengths)
    mean_length, share = float(np.mean(lengths)), accuracy(correct)
    limit = token_limit(budget)
    return PointSummary(
        mean_length=mean_length,
        rel_err=rel_err(lengths, limit) if limit else None,
        in_band=in_band(lengths, limit) if limit else None,
        overrun=overrun(lengths, limit) if limit else None,
        accuracy=share,
        p10=p10,
        p50=p50,
        p90=p90,
        n=len(graded),
        stderr=clustered_stderr(correct, [question for question, _, _ in graded]),
        acc2_per_token=acc2_per_token(share, mean_length),
        broken=broken,
    )


def _empty_point(broken: int) -> PointSummary:
    return PointSummary(
        mean_length=None,
        rel_err=None,
        in_band=None,
        overrun=None,
        accuracy=None,
        p10=None,
        p50=None,
        p90=None,
        n=0,
        stderr=None,
        acc2_per_token=None,
        broken=broken,
    )


def _budget_order(budget: Budget) -> tuple[float, str]:
    """Sort key: token budgets by size, then the others by name."""
    limit = token_limit(budget)
    return (float("inf") if limit is None else limit, budget_label(budget))


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _lengths(lengths: ArrayLike, budget: int) -> Doubles:
    if budget < 1:
        msg = f"a token budget is at least 1, not {budget}"
        raise ValueError(msg)
    return _non_empty(lengths)


def _non_empty(values: ArrayLike) -> Doubles:
    """The values as a float array of shape [n], n > 0."""
    array_n = np.asarray(values, dtype=np.float64)
    if array_n.ndim != 1 or array_n.size == 0:
        msg = f"one value per rollout is required, got shape {array_n.shape}"
        raise ValueError(msg)
    return array_n
