"""Rules common to all rewards, on literal numbers: one test a row of `bard_ray.rewards.parts`."""

import dataclasses

import numpy as np
import pytest

from bard_ray.config.load import load
from bard_ray.config.schema import FidelityConfig, RewardConfig
from bard_ray.errors import ConfigError, InvariantError
from bard_ray.preflight.check import problems
from bard_ray.records import (
    NO_BUDGET,
    Budget,
    EffortBudget,
    Group,
    ModeBudget,
    Outcome,
    TagBudget,
    TokenBudget,
)
from bard_ray.rewards.parts import has_broken
from bard_ray.rewards.reward import make_reward
from bard_ray.rewards.stats import BatchStats
from bard_ray.rewards.trial import try_out
from recipes import bard_tiny
from tests.unit.reward_cases import RIGHT, WRONG, group, reward_config, rewarded, rewards, rollout

PRODUCT = reward_config()
ADDITIVE = reward_config("additive")  # c + 0.5 f, which shows accuracy and fidelity separately


def test_a_right_answer_earns_its_fidelity_and_a_wrong_one_nothing():
    graded = group((rollout(20), RIGHT), (rollout(22), RIGHT), (rollout(20), WRONG))
    assert rewards(PRODUCT, graded) == [1.0, 0.6, 0.0]
    assert rewards(ADDITIVE, graded) == [1.5, 1.3, 0.5]
    found = rewarded(PRODUCT, graded)
    assert found.rewards_G is not None
    assert found.rewards_G.dtype == np.float32
    assert (found.segment_rewards, found.advantage_shift_G) == ({}, None)


@pytest.mark.parametrize("outcome", [Outcome.UNPARSABLE, Outcome.TIMEOUT])
def test_an_answer_that_cannot_be_read_or_graded_in_time_is_a_wrong_one(outcome):
    assert rewards(PRODUCT, group((rollout(20), outcome))) == [0.0]
    assert rewards(ADDITIVE, group((rollout(20), outcome))) == [0.5]


@pytest.mark.parametrize(
    "changes",
    [
        {"finish": "length"},
        {"closed": False},
        {"closed": False, "finish": "length"},
        {"extra_tags": 1},
    ],
    ids=["truncated", "never closed", "never closed and truncated", "repeated tag"],
)
@pytest.mark.parametrize("outcome", [RIGHT, WRONG])
def test_a_malformed_rollout_earns_nothing_whatever_the_verdict(changes, outcome):
    graded = group((rollout(20, **changes), outcome))
    assert rewards(PRODUCT, graded) == [0.0]
    assert rewards(ADDITIVE, graded) == [0.0]
    unlimited = group((rollout(20, NO_BUDGET, **changes), outcome))
    assert rewards(ADDITIVE, unlimited) == [0.0]


def test_skipped_thinking_has_length_zero_and_the_shape_decides():
    graded = group((rollout(0), RIGHT))
    assert rewards(reward_config(shape="cap_linear"), graded) == [1.0]
    assert rewards(reward_config(shape="asymmetric"), graded) == [0.0]


def test_thinking_in_the_answer_part_is_charged_like_thinking_before_the_tag():
    # 16 tokens of the answer part are not charged: 10 + (26 - 16) = 20 thinking tokens; 20 + 2.
    leak = group((rollout(10, answer_tokens=26), RIGHT), (rollout(20, answer_tokens=18), RIGHT))
    assert rewards(PRODUCT, leak) == [1.0, 0.6]
    assert rewards(PRODUCT, group((rollout(20, answer_tokens=16), RIGHT))) == [1.0]
    evading = group((rollout(1, answer_tokens=400), RIGHT))
    assert rewards(reward_config(shape="cap_linear"), evading) == [0.0]


def test_without_a_budget_closed_thinking_has_fidelity_1():
    assert rewards(PRODUCT, group((rollout(5000, NO_BUDGET), RIGHT))) == [1.0]


def test_an_effort_is_a_fraction_of_the_mean_length_of_the_group():
    # Mean 20, so half the effort allows 10 tokens.
    half = EffortBudget(0.5)
    graded = group(
        (rollout(10, half), RIGHT), (rollout(11, half), RIGHT), (rollout(39, half), RIGHT)
    )
    assert rewards(PRODUCT, graded) == [1.0, 0.6, 0.0]


@pytest.mark.parametrize("budget", [ModeBudget("low"), TagBudget("[Easy]")])
@pytest.mark.parametrize("name", ["product", "additive", "lcpo_exact", "effort", "hbpo"])
def test_a_budget_without_a_number_of_tokens_is_refused_by_rewards_that_need_it(name, budget):
    with pytest.raises(ConfigError, match=r"rl\.reward\.name = '(mode=low|tag=\[Easy\])'"):
        rewards(reward_config(name), group((rollout(20, budget), RIGHT)))


def test_a_budget_without_a_number_of_tokens_works_with_rewards_that_ignore_it():
    graded = group((rollout(20, ModeBudget("low")), RIGHT), (rollout(20, ModeBudget("low")), WRONG))
    assert rewards(reward_config("autothink"), graded) == [1.0, 0.0]


@pytest.mark.parametrize(
    "broken",
    [
        group((rollout(), RIGHT), (rollout(), Outcome.BROKEN)),
        group((rollout(finish="abort"), Outcome.UNPARSABLE)),
    ],
)
def test_infrastructure_failures_never_become_a_reward(broken: Group) -> None:
    assert has_broken(broken)
    with pytest.raises(InvariantError, match="group 7"):
        rewards(PRODUCT, broken)
    assert not has_broken(group((rollout(), RIGHT)))


def test_the_numbers_of_verdicts_and_rollouts_must_match():
    graded = group((rollout(), RIGHT), (rollout(), WRONG))
    short = dataclasses.replace(graded, verdicts=graded.verdicts[:-1])
    with pytest.raises(InvariantError, match="2 rollouts and 1 verdicts"):
        rewards(PRODUCT, short)


def test_parts_golden():
    graded = group(
        (rollout(22, answer_tokens=3), RIGHT), (rollout(20, closed=False, finish="length"), WRONG)
    )
    parts = make_reward(PRODUCT).parts(graded)
    assert parts.accuracy_G.tolist() == [1.0, 0.0]
    assert parts.fidelity_G.tolist() == pytest.approx([0.6, 0.0])
    assert parts.malformed_G.tolist() == [False, True]
    assert parts.leaking_G.tolist() == [False, False]


def test_the_configuration_reaches_reward_and_shape():
    shape = FidelityConfig("cap_linear", {"tolerance": 0.0, "slope": 0.25})
    graded = group((rollout(5), RIGHT), (rollout(22), RIGHT))
    assert rewards(RewardConfig("additive", {"weight": 1.0}, fidelity=shape), graded) == [2.0, 1.6]


@dataclasses.dataclass(frozen=True)
class Short:
    """A user-defined reward that returns too few values."""

    def __call__(self, parts, stats):
        from bard_ray.rewards.reward import RewardValues

        return RewardValues(parts.accuracy_G[:1])


def test_a_reward_with_too_few_values_is_refused():
    config = RewardConfig(f"{__name__}:Short")
    with pytest.raises(InvariantError, match=r"\[1\] values for 2 rollouts"):
        make_reward(config).rewarded(group((rollout(), RIGHT), (rollout(), WRONG)), BatchStats())


def test_a_reward_is_tried_on_a_synthetic_group_before_anything_starts():
    try_out(PRODUCT, [TokenBudget(8), EffortBudget(0.5), NO_BUDGET])
    with pytest.raises(ConfigError, match=r"rl\.reward\.name.*\[1\] values for 4 rollouts"):
        try_out(RewardConfig(f"{__name__}:Short"), [TokenBudget(8), NO_BUDGET])
    with pytest.raises(ConfigError, match="mode=low"):
        try_out(PRODUCT, [TokenBudget(8), ModeBudget("low")])
    found = problems(load(bard_tiny.config(), [f"rl.reward.name={__name__}:Short"]))
    assert [problem.field for problem in found] == ["rl.reward.name"]


def test_budgets_of_one_group_may_differ():
    budgets: list[Budget] = [NO_BUDGET, EffortBudget(1.0)]
    graded = group((rollout(30, budgets[0]), RIGHT), (rollout(10, budgets[1]), RIGHT))
    # Mean 20 allows the second 20 tokens; it used half of them.
    assert rewards(reward_config(shape="triangular"), graded) == [1.0, 0.5]
