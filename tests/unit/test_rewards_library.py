"""The rewards other than `product` and `additive`, on literal numbers."""

import math

import pytest

from bard_ray.errors import ConfigError
from bard_ray.records import NO_BUDGET, EffortBudget, TokenBudget
from bard_ray.rewards.reward import REWARDS, make_reward
from bard_ray.rewards.stats import BatchStats, Means
from tests.unit.reward_cases import RIGHT, WRONG, group, reward_config, rewarded, rewards, rollout


def test_lcpo_exact_subtracts_the_distance_in_tokens():
    b = TokenBudget(2000)
    graded = group(
        (rollout(2000, b), RIGHT),
        (rollout(1500, b), RIGHT),  # 1 - 3e-4 x 500
        (rollout(3000, b), WRONG),  # 0 - 3e-4 x 1000
        (rollout(3000, b, finish="length"), RIGHT),  # malformed: as a wrong answer of its length
        (rollout(9000, NO_BUDGET), RIGHT),
    )
    assert rewards(reward_config("lcpo_exact"), graded) == [1.0, 0.85, -0.3, -0.3, 1.0]


def test_effort_is_all_or_nothing_against_the_mean_length_of_the_group():
    half, full = EffortBudget(0.5), EffortBudget(1.0)
    graded = group(
        (rollout(10, half), RIGHT),  # mean 20: half of it is 10
        (rollout(11, half), RIGHT),
        (rollout(20, full), RIGHT),
        (rollout(5, full), WRONG),
        (rollout(54, NO_BUDGET), RIGHT),
        (rollout(20, TokenBudget(19)), RIGHT),
    )
    assert rewards(reward_config("effort"), graded) == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]


def test_hbpo_is_nearly_flat_within_a_budget_and_lower_above():
    small, large = TokenBudget(512), TokenBudget(2048)
    u_512, u_2048 = 4 * math.cos(math.pi * 512 / 8192), 4 * math.cos(math.pi * 2048 / 8192)
    graded = group(
        (rollout(512, small), RIGHT),  # u(512) itself
        (rollout(1024, small), RIGHT),  # u(1024) - 512 / 4096
        (rollout(2048, large), RIGHT),
        (rollout(1024, large), RIGHT),  # u(1024) - 1024 / 4096 exceeds the cap u(2048)
        (rollout(4097, large), RIGHT),  # longer than the limit
        (rollout(512, small), WRONG),
        (rollout(1024, NO_BUDGET), RIGHT),
    )
    found = rewarded(reward_config("hbpo"), graded)
    want = [u_512, 3.570519, u_2048, u_2048, -1.0, -1.0, 3.695518]
    assert found.rewards_G is not None
    assert found.rewards_G.tolist() == pytest.approx(want, abs=1e-5)
    # Once: mean R of the same budget minus its maximum u(b); 0 without a budget.
    shift_small = (u_512 + 3.570519 - 1) / 3 - u_512
    shift_large = (2 * u_2048 - 1) / 3 - u_2048
    assert found.advantage_shift_G is not None
    assert found.advantage_shift_G.tolist() == pytest.approx(
        [shift_small, shift_small, shift_large, shift_large, shift_large, shift_small, 0], abs=1e-5
    )


def stats(step: int, skipped: float | None = None) -> BatchStats:
    return BatchStats(step, None if skipped is None else Means(0.5, 20.0, skipped, 0.1))


FOUR = group((rollout(0), RIGHT), (rollout(0), WRONG), (rollout(20), RIGHT), (rollout(20), WRONG))


@pytest.mark.parametrize(
    ("skipped", "expected"),
    [
        (None, [2.0, -1.0, 1.0, 0.0]),  # no statistics yet
        (0.5, [2.0, -1.0, 1.0, 0.0]),
        (0.75, [1.5, -1.5, 1.0, 0.0]),  # a = 2 (0.75 - 0.5)
        (1.0, [1.0, -2.0, 1.0, 0.0]),
        (0.0, [2.0, -1.0, 0.0, -1.0]),
    ],
)
def test_autothink_stage_1_penalizes_the_mode_that_is_used_too_much(skipped, expected):
    assert rewards(reward_config("autothink"), FOUR, stats(199, skipped)) == expected


def test_autothink_stage_2_does_not_balance():
    assert rewards(reward_config("autothink"), FOUR, stats(200, 1.0)) == [2.0, -1.0, 1.0, 0.0]


def test_autothink_stage_3_prefers_short_right_and_long_wrong_answers():
    graded = group((rollout(10), RIGHT), (rollout(30), RIGHT), (rollout(10), WRONG))
    # z = -1 and +1 among the right ones: exp(0.05) - 1 and exp(-0.05) - 1; one wrong one: z = 0.
    expected = [1.051271, 0.951229, 0.0]
    assert rewards(reward_config("autothink"), graded, stats(400)) == expected
    early = reward_config("autothink", balance_steps=0, plain_steps=1)
    assert rewards(early, graded, stats(1)) == expected


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("additive", {"weight": 2.0}),
        ("lcpo_exact", {"alpha": -1.0}),
        ("hbpo", {"limit": 0}),
        ("hbpo", {"wrong": 1.0}),
        ("autothink", {"balance_steps": -1}),
        ("autothink", {"decay": -0.1}),
    ],
)
def test_parameters_out_of_range_are_refused(name, params):
    with pytest.raises(ConfigError, match=r"rl\.reward\.params.*must be"):
        make_reward(reward_config(name, **params))


def test_the_registered_rewards():
    known = ["additive", "autothink", "effort", "hbpo", "lcpo_exact", "product"]
    assert REWARDS.names() == known
