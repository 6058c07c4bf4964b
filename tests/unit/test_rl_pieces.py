"""Advantages, segments and training sequences: literal numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from bard_ray.budget.span import ThinkTags
from bard_ray.metrics import BINS, TABLE
from bard_ray.records import (
    NO_BUDGET,
    EffortBudget,
    Group,
    GroupRequest,
    Message,
    Question,
    TokenBudget,
)
from bard_ray.rl.advantages import (
    group_advantages,
    has_signal,
    has_zero_variance,
    segment_advantages,
)
from bard_ray.rl.assemble import Completion, assemble, prompt_segment
from bard_ray.rl.bins import BudgetBins
from bard_ray.rl.observe import binned_lags
from bard_ray.rl.sequences import sampled_versions, train_sequences

CLOSE, OPEN, END = 7, 8, 0


def rollout(tokens, forced_at=None, versions=None):
    tokens_T = np.array(tokens, np.int32)
    logprobs_T = -np.arange(1, len(tokens) + 1, dtype=np.float32)
    versions_T = np.array(versions or [4] * len(tokens), np.int32)
    completion = Completion(tokens_T, logprobs_T, versions_T, "stop")
    prompt = prompt_segment(np.array([1, 2], np.int32))
    return assemble(
        prompt,
        completion,
        TokenBudget(3),
        ThinkTags(CLOSE, OPEN, END),
        forced_at,
        lambda ids: str(ids.tolist()),
    )


def test_group_advantages():
    rewards_G = np.array([1.0, 0.0, 0.5, 0.5], np.float32)
    plain = group_advantages(rewards_G, std_normalize=False)
    assert plain.tolist() == [0.5, -0.5, 0.0, 0.0]
    scaled = group_advantages(rewards_G, std_normalize=True)
    assert scaled.tolist() == pytest.approx([2**0.5, -(2**0.5), 0.0, 0.0], abs=1e-5)
    assert group_advantages(np.full(3, 0.7, np.float32), std_normalize=True).tolist() == [0, 0, 0]


def test_equal_rewards_are_zero_variance():
    assert has_zero_variance(np.array([0.3, 0.3], np.float32))
    assert not has_zero_variance(np.array([0.3, 0.31], np.float32))


def test_the_closing_tag_belongs_to_the_thinking_and_is_trained_on():
    r = rollout([5, 6, CLOSE, 9])
    assert [(s.role, s.tokens_T.tolist()) for s in r.segments[1:]] == [
        ("think", [5, 6, CLOSE]),
        ("answer", [9]),
    ]
    assert (r.thinking_tokens, r.closed, r.answer_text) == (2, True, "[9]")
    assert all(s.mask_T.all() for s in r.segments[1:])


def test_a_tag_the_engine_forced_is_not_trained_on():
    r = rollout([5, 6, 5, CLOSE, 9], forced_at=3)
    assert [(s.role, bool(s.mask_T.all())) for s in r.segments[1:]] == [
        ("think", True),
        ("forced", False),
        ("answer", True),
    ]
    assert rollout([5, CLOSE, 9], forced_at=3).segments[1].role == "think", "closed by the model"


def test_unclosed_thinking_counts_in_full_and_has_no_answer():
    r = rollout([5, 6, 5])
    assert (r.thinking_tokens, r.closed, r.answer_text) == (3, False, "[]")


def test_a_training_sequence_carries_advantages_on_trained_tokens_only():
    request = GroupRequest(0, Question("q", (Message("user", "?"),), "1"), (TokenBudget(3),) * 2, 0)
    rollouts = (rollout([5, 6, 5, CLOSE, 9], forced_at=3), rollout([5, CLOSE]))
    group = Group(request, rollouts, rewards_G=np.array([1.0, 0.0], np.float32))
    first, second = train_sequences([group], BudgetBins(), std_normalize=False)
    assert first.tokens_T.tolist() == [1, 2, 5, 6, 5, CLOSE, 9]
    assert first.mask_T.tolist() == [False, False, True, True, True, False, True]
    assert first.advantages_T is not None
    assert first.advantages_T.tolist() == [0, 0, 0.5, 0.5, 0.5, 0, 0.5]
    assert first.behavior_T is not None
    assert first.behavior_T.tolist() == [0, 0, -1, -2, -3, -4, -5]
    assert second.advantages_T is not None
    assert second.advantages_T.tolist() == [0, 0, -0.5, -0.5]


def test_answer_tokens_exclude_the_end_token_and_extra_think_tags_are_counted():
    assert (rollout([5, CLOSE, 9, 9, END]).answer_tokens, rollout([5, CLOSE]).answer_tokens) == (
        2,
        0,
    )
    assert rollout([5, CLOSE, 9, END]).extra_tags == 0
    again = rollout([5, CLOSE, 9, OPEN, 5, CLOSE, 9, END])
    assert (again.thinking_tokens, again.answer_tokens, again.extra_tags) == (1, 5, 2)
    never = rollout([5, OPEN, 6])
    assert (never.answer_tokens, never.extra_tags) == (0, 0), (
        "without a closing tag there is no answer part"
    )


def test_segments_are_compared_with_the_same_segment_of_the_other_rollouts():
    nan = np.nan
    values_GS = np.array([[1.0, 0.5], [0.0, nan], [0.5, 0.25]], np.float32)
    found = segment_advantages(values_GS, std_normalize=False)
    assert found.tolist() == [[0.5, 0.125], [-0.5, 0.0], [0.0, -0.125]]
    nothing = np.full((2, 1), nan, np.float32)
    assert segment_advantages(nothing, std_normalize=True).tolist() == [[0.0], [0.0]]


def pair(**rewards):
    request = GroupRequest(0, Question("q", (Message("user", "?"),), "1"), (TokenBudget(3),) * 2, 0)
    return Group(request, (rollout([5, 6, CLOSE, 9]), rollout([5, CLOSE])), **rewards)


def test_thinking_and_answer_may_have_separate_advantages():
    group = pair(
        rewards_G=np.array([1.0, 0.0], np.float32),
        segment_rewards={"think": np.array([[0.0], [1.0]], np.float32)},
    )
    first, second = train_sequences([group], BudgetBins(), std_normalize=False)
    assert first.advantages_T is not None
    assert second.advantages_T is not None
    assert first.advantages_T.tolist() == [0, 0, -0.5, -0.5, -0.5, 0.5]
    assert second.advantages_T.tolist() == [0, 0, 0.5, 0.5]
    assert first.advantages_T.dtype == np.float32


def test_a_shift_is_added_after_normalization():
    shift_G = np.array([-1.0, -2.0], np.float32)
    group = pair(rewards_G=np.array([1.0, 0.0], np.float32), advantage_shift_G=shift_G)
    first, second = train_sequences([group], BudgetBins(), std_normalize=False)
    assert first.advantages_T is not None
    assert second.advantages_T is not None
    assert (first.advantages_T[-1], second.advantages_T[-1]) == (-0.5, -2.5)
    with_segments = dataclasses.replace(
        group, segment_rewards={"answer": np.array([[0.0], [np.nan]], np.float32)}
    )
    first, _ = train_sequences([with_segments], BudgetBins(), std_normalize=False)
    assert first.advantages_T is not None
    assert first.advantages_T.tolist() == [0, 0, -0.5, -0.5, -0.5, -1.0]


def test_a_group_has_signal_if_rewards_of_rollouts_or_of_a_segment_differ():
    same_G, differ_G = np.array([1, 1], np.float32), np.array([1, 0], np.float32)
    assert not has_signal(pair())
    assert not has_signal(pair(rewards_G=same_G))
    assert has_signal(pair(rewards_G=differ_G))
    think = {"think": differ_G[:, None]}
    assert has_signal(pair(rewards_G=same_G, segment_rewards=think))
    alone = {"answer": np.array([[1.0], [np.nan]], np.float32)}
    assert not has_signal(pair(rewards_G=same_G, segment_rewards=alone))


def test_versions_are_those_of_sampled_tokens():
    assert sampled_versions(rollout([5, CLOSE, 9], versions=[3, 3, 4])).tolist() == [3, 3, 4]


def test_budget_bins_are_thirds_of_the_training_budgets():
    bins = BudgetBins.of([4, 30, 8, 16, 8, 20, 24])
    names = [BINS[bins.index(TokenBudget(b))] for b in (4, 8, 9, 16, 20, 21, 24, 30, 99)]
    assert names == ["short"] * 2 + ["middle"] * 3 + ["long"] * 4
    assert BINS[bins.index(NO_BUDGET)] == BINS[bins.index(EffortBudget(0.5))] == "none"
    assert BudgetBins.of([4, 8, 12, 16]).edges == (8, 12)
    assert BudgetBins.of([]).index(TokenBudget(7)) == 0


def test_lags_are_reported_by_bin_and_bins_without_tokens_are_omitted():
    request = GroupRequest(0, Question("q", (Message("user", "?"),), "1"), (TokenBudget(3),) * 2, 0)
    free = replace(rollout([5, CLOSE, 9], versions=[5, 5, 6]), budget=NO_BUDGET)
    group = Group(request, (rollout([5, CLOSE, 9, 9], versions=[2, 3, 4, 4]), free))
    found = binned_lags([group], 6, BudgetBins((3, 9)))
    assert found == {
        "bins/lag_mean_short": 2.75,
        "bins/lag_max_short": 4.0,
        "bins/lag_mean_none": pytest.approx(2 / 3),
        "bins/lag_max_none": 1.0,
    }
    assert found.keys() <= TABLE.keys()


def test_training_sequences_have_their_bin():
    request = GroupRequest(0, Question("q", (Message("user", "?"),), "1"), (TokenBudget(3),) * 2, 0)
    rollouts = (rollout([5, CLOSE]), replace(rollout([5, CLOSE]), budget=TokenBudget(8)))
    group = Group(request, rollouts, rewards_G=np.array([1.0, 0.0], np.float32))
    sequences = train_sequences([group], BudgetBins((3, 6)), std_normalize=False)
    assert [s.budget_bin for s in sequences] == [0, 2]
