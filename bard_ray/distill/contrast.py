"""Contrast: the same question at several budgets, so that only the budget explains the length."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from bard_ray.records import NO_BUDGET, DistillRow, budget_label

LOW_SHARE = 0.1  # of questions at two or more budgets; below it the corpus has almost no contrast


def questions_by_budgets(rows: Iterable[DistillRow]) -> dict[int, int]:
    """Number of questions that have rows at exactly n different budgets, by n, ascending.

    Rows without a budget do not count.
    """
    budgets: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.budget != NO_BUDGET:
            budgets[row.question.id].add(budget_label(row.budget))
    return dict(sorted(Counter(len(found) for found in budgets.values()).items()))


def contrast_share(counts: Mapping[int, int]) -> float:
    """Share of the questions that have rows at two or more budgets; 0 without questions.

    Args:
        counts: see `questions_by_budgets`.
    """
    questions = sum(counts.values())
    return sum(n for budgets, n in counts.items() if budgets > 1) / questions if questions else 0.0


def contrast_warning(counts: Mapping[int, int]) -> str:
    """A warning where almost no question has rows at two or more budgets, else empty."""
    questions = sum(counts.values())
    if not questions or contrast_share(counts) >= LOW_SHARE:
        return ""
    several = sum(n for budgets, n in counts.items() if budgets > 1)
    return (
        f"Only {several:,} of {questions:,} questions have rows at two or more budgets: the corpus"
        " has almost no contrast, and students learn budgets less well from it. With a compressor"
        " that keeps one budget per chain, such as hindsight, request several chains per question"
        " whose lengths differ; with others, raise distill.budgets_per_question."
    )
