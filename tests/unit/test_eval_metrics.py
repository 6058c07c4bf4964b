"""Adherence and accuracy against hand-computed numbers."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bard_ray.evals import metrics
from bard_ray.records import (
    NO_BUDGET,
    Failure,
    FailureKind,
    Group,
    GroupRequest,
    Message,
    ModeBudget,
    Outcome,
    Question,
    Rollout,
    TokenBudget,
    Verdict,
)

LENGTHS = [8, 10, 11, 12, 14]  # around a budget of 10


def question(name="q"):
    return Question(name, (Message("user", "1+1"),), "2", "integer")


def graded(budget, answers, name="q", number=0):
    """A group from (length, outcome, closed) triples."""
    rollouts = tuple(
        Rollout(budget, (), "stop", length, closed, "") for length, _, closed in answers
    )
    verdicts = tuple(Verdict(outcome) for _, outcome, _ in answers)
    return Group(
        GroupRequest(number, question(name), (budget,) * len(answers), 0), rollouts, verdicts
    )


def right(length):
    return (length, Outcome.CORRECT, True)


def wrong(length):
    return (length, Outcome.WRONG, True)


def test_rel_err_golden():
    assert metrics.rel_err(LENGTHS, 10) == pytest.approx((2 + 0 + 1 + 2 + 4) / 5 / 10)


def test_in_band_golden():
    assert metrics.in_band(LENGTHS, 10) == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("length", "budget", "inside"), [(5, 4, 1), (6, 4, 0), (27, 30, 1), (33, 30, 1), (34, 30, 0)]
)
def test_in_band_allows_one_token_or_a_tenth(length, budget, inside):
    assert metrics.in_band([length], budget) == inside


def test_overrun_counts_only_lengths_above_the_budget():
    assert metrics.overrun(LENGTHS, 10) == pytest.approx(3 / 5)
    assert metrics.overrun([10], 10) == 0


def test_accuracy_golden():
    assert metrics.accuracy([True, False, True, True]) == 0.75


def test_acc2_per_token_golden():
    assert metrics.acc2_per_token(0.5, 10) == pytest.approx(0.025)
    assert metrics.acc2_per_token(0.5, 0) is None


def test_percentiles_golden():
    assert metrics.percentiles([0, 10, 20, 30, 40]) == pytest.approx((4, 20, 36))


def test_stderr_with_one_answer_a_question_is_binomial():
    correct = [1, 1, 1, 0]
    assert metrics.clustered_stderr(correct, "abcd") == pytest.approx(math.sqrt(0.75 * 0.25 / 4))


def test_stderr_of_repeated_answers_is_that_of_the_questions():
    # Two questions with four equal answers each are two observations, not eight.
    once = metrics.clustered_stderr([1, 0], "ab")
    assert metrics.clustered_stderr([1] * 4 + [0] * 4, "aaaabbbb") == pytest.approx(once)


def test_stderr_refuses_another_number_of_questions():
    with pytest.raises(ValueError, match="2 answers but 1 questions"):
        metrics.clustered_stderr([1, 0], "a")


@pytest.mark.parametrize("metric", [metrics.rel_err, metrics.in_band, metrics.overrun])
def test_empty_lengths_and_a_budget_below_1_are_refused(metric):
    with pytest.raises(ValueError, match="per rollout"):
        metric([], 10)
    with pytest.raises(ValueError, match="at least 1"):
        metric([3], 0)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=30), st.integers(1, 100))
def test_in_band_agrees_with_its_definition(lengths, budget):
    # 0.1 b is a floating-point number; no integer falls into the slack of 1e-9.
    expected = np.mean(
        [abs(length - budget) <= max(1.0, 0.1 * budget) + 1e-9 for length in lengths]
    )
    assert metrics.in_band(lengths, budget) == pytest.approx(expected)


def test_summary_golden():
    groups = [
        graded(TokenBudget(10), [right(10), wrong(12)], "a", 1),
        graded(TokenBudget(10), [right(8), right(10)], "b", 2),
        graded(TokenBudget(4), [wrong(5)], "a", 3),
        graded(NO_BUDGET, [right(30)], "a", 4),
    ]
    summary = json.loads(json.dumps(metrics.summarize(groups)))
    assert list(summary["by_budget"]) == ["4", "10", "none"]
    assert summary["by_budget"]["10"] == {
        "mean_length": 10,
        "rel_err": pytest.approx(0.1),
        "in_band": 0.5,
        "overrun": 0.25,
        "accuracy": 0.75,
        "p10": pytest.approx(8.6),
        "p50": 10,
        "p90": pytest.approx(11.4),
        "n": 4,
        "stderr": pytest.approx(math.sqrt(0.5**2 + 0.5**2) / 4),
        "acc2_per_token": pytest.approx(0.05625),
        "broken": 0,
    }
    tops = {key: summary[key] for key in ("rel_err", "in_band", "overrun", "accuracy")}
    assert tops == pytest.approx(
        {"rel_err": 0.175, "in_band": 0.75, "overrun": 0.625, "accuracy": 0.375}
    )


def test_the_unconstrained_point_is_kept_but_not_in_the_means():
    summary = metrics.summarize(
        [graded(TokenBudget(10), [wrong(10)]), graded(NO_BUDGET, [right(99)])]
    )
    point = summary["by_budget"]["none"]
    assert (point["rel_err"], point["in_band"], point["overrun"]) == (None, None, None)
    assert (point["mean_length"], point["accuracy"]) == (99, 1)
    assert summary["accuracy"] == 0


def test_without_token_budgets_the_means_are_none():
    assert metrics.summarize([graded(ModeBudget("low"), [right(5)])])["accuracy"] is None


def test_unclosed_thinking_is_wrong_whatever_the_verdict_and_its_length_counts():
    summary = metrics.summarize(
        [graded(TokenBudget(10), [(60, Outcome.CORRECT, False), right(10)])]
    )
    point = summary["by_budget"]["10"]
    assert point["accuracy"] == 0.5
    assert point["mean_length"] == 35


@pytest.mark.parametrize("outcome", [Outcome.WRONG, Outcome.UNPARSABLE, Outcome.TIMEOUT])
def test_every_verdict_but_broken_counts(outcome):
    point = metrics.summarize([graded(TokenBudget(10), [right(10), (10, outcome, True)])])[
        "by_budget"
    ]["10"]
    assert (point["accuracy"], point["n"], point["broken"]) == (0.5, 2, 0)


def test_broken_verdicts_are_left_out_and_counted():
    summary = metrics.summarize([graded(TokenBudget(10), [right(10), (50, Outcome.BROKEN, True)])])
    point = summary["by_budget"]["10"]
    assert (point["accuracy"], point["mean_length"], point["n"], point["broken"]) == (1, 10, 1, 1)
    assert summary["broken"] == 1


def test_a_budget_with_only_broken_verdicts_is_none_not_zero():
    broken = graded(TokenBudget(4), [(4, Outcome.BROKEN, True)])
    summary = metrics.summarize([broken, graded(TokenBudget(10), [right(10)])])
    assert summary["by_budget"]["4"]["accuracy"] is None
    assert summary["accuracy"] == 1


def test_failed_groups_are_counted():
    died = Failure(FailureKind.WORKER_LOST, "worker died")
    failed = Group(GroupRequest(1, question(), (TokenBudget(10),), 0), failure=died)
    summary = metrics.summarize([graded(TokenBudget(10), [right(10)]), failed])
    assert (summary["failed"], summary["by_budget"]["10"]["n"]) == (1, 1)


def test_ungraded_rollouts_are_refused():
    group = graded(TokenBudget(10), [right(10)])
    with pytest.raises(ValueError, match="1 rollouts and 0 verdicts"):
        metrics.summarize([Group(group.request, group.rollouts)])
