"""Rewards on literal numbers."""

import dataclasses

import numpy as np
import pytest

from bard_ray.budget.signal import NO_BUDGET, Budget, EffortBudget, TokenBudget
from bard_ray.config.schema import RewardConfig
from bard_ray.errors import ConfigError, InvariantError
from bard_ray.records import Group, GroupRequest, Message, Outcome, Question, Rollout, Verdict
from bard_ray.rewards.fidelity import Asymmetric, CapLinear, rollout_fidelity
from bard_ray.rewards.reward import count_outcomes, has_broken, make_reward

TWENTY = TokenBudget(20)
QUESTION = Question("q", (Message("user", "1+1?"),), "2", "integer")


def rollout(thinking_tokens: int = 20, budget: Budget = TWENTY, **changes: object) -> Rollout:
    plain = Rollout(budget, (), "stop", thinking_tokens, closed=True, answer_text="")
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def group(*graded: tuple[Rollout, Outcome]) -> Group:
    request = GroupRequest(7, QUESTION, tuple(r.budget for r, _ in graded), seed=0)
    return Group(
        request, tuple(r for r, _ in graded), tuple(Verdict(outcome) for _, outcome in graded)
    )


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (20, 1.0),
        (21, 1.0),
        (19, 1.0),
        (22, 0.6),
        (23, 0.2),
        (24, 0.0),
        (18, 0.8),
        (16, 0.4),
        (14, 0.0),
        (0, 0.0),
    ],
)
def test_asymmetric_at_a_budget_of_20(length: int, expected: float) -> None:
    # d = +0.10: 1 - 8 (0.10 - 0.05) = 0.6; d = -0.10: 1 - 4 (0.10 - 0.05) = 0.8
    shape = Asymmetric(tolerance=0.05, over_slope=8.0, under_slope=4.0)
    assert shape.of_length(length, 20) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 1.0), (1000, 1.0), (1100, 1.0), (1200, 0.8), (1350, 0.5), (1600, 0.0), (9000, 0.0)],
)
def test_cap_linear_at_a_budget_of_1000(length: int, expected: float) -> None:
    # L/b = 1.2: 1 - 2 (1.2 - 1 - 0.1) = 0.8
    assert CapLinear(tolerance=0.1, over_slope=2.0).of_length(length, 1000) == pytest.approx(
        expected, abs=1e-12
    )


def test_a_budget_of_zero_asks_for_no_thinking() -> None:
    assert Asymmetric().of_length(0, 0) == 1.0
    assert Asymmetric().of_length(1, 0) == 0.0


def test_without_a_budget_any_closed_thinking_is_faithful() -> None:
    assert rollout_fidelity(rollout(5000, NO_BUDGET), Asymmetric()) == 1.0


def test_thinking_that_never_closed_is_not_faithful_to_any_budget() -> None:
    assert rollout_fidelity(rollout(20, closed=False), Asymmetric()) == 0.0
    assert rollout_fidelity(rollout(20, NO_BUDGET, closed=False), Asymmetric()) == 0.0


def test_a_budget_without_tokens_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match=r"effort=0\.5"):
        rollout_fidelity(rollout(20, EffortBudget(0.5)), Asymmetric())


GRADED = group(
    (rollout(20), Outcome.CORRECT),
    (rollout(22), Outcome.CORRECT),
    (rollout(20), Outcome.WRONG),
    (rollout(20), Outcome.UNPARSABLE),
    (rollout(22), Outcome.TIMEOUT),
    (rollout(20, finish="length"), Outcome.CORRECT),
    (rollout(20, closed=False, finish="length"), Outcome.UNPARSABLE),
)


def test_product_pays_fidelity_only_for_a_correct_answer() -> None:
    rewards_G = make_reward(RewardConfig())(GRADED)
    assert rewards_G.dtype == np.float32
    np.testing.assert_allclose(rewards_G, [1.0, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0], atol=1e-6)


def test_additive_pays_fidelity_for_any_finished_answer() -> None:
    rewards_G = make_reward(RewardConfig(compose="additive", fidelity_weight=0.5))(GRADED)
    np.testing.assert_allclose(rewards_G, [1.5, 1.3, 0.5, 0.5, 0.3, 0.0, 0.0], atol=1e-6)


def test_the_configuration_reaches_the_shape() -> None:
    config = RewardConfig(fidelity="cap_linear", tolerance=0.0, over_slope=4.0)
    graded = group((rollout(5), Outcome.CORRECT), (rollout(22), Outcome.CORRECT))
    np.testing.assert_allclose(make_reward(config)(graded), [1.0, 0.6], atol=1e-6)


@pytest.mark.parametrize(
    "broken",
    [
        group((rollout(), Outcome.CORRECT), (rollout(), Outcome.BROKEN)),
        group((rollout(finish="abort"), Outcome.UNPARSABLE)),
    ],
)
def test_what_the_policy_did_not_do_never_becomes_a_reward(broken: Group) -> None:
    assert has_broken(broken)
    with pytest.raises(InvariantError, match="group 7"):
        make_reward(RewardConfig())(broken)


def test_a_sound_group_is_not_broken() -> None:
    assert not has_broken(GRADED)


def test_verdicts_must_match_rollouts() -> None:
    short = dataclasses.replace(GRADED, verdicts=GRADED.verdicts[:-1])
    with pytest.raises(InvariantError, match="7 rollouts and 6 verdicts"):
        make_reward(RewardConfig())(short)


def test_outcomes_are_counted() -> None:
    assert count_outcomes([GRADED, GRADED]) == {
        Outcome.CORRECT: 6,
        Outcome.WRONG: 2,
        Outcome.UNPARSABLE: 4,
        Outcome.TIMEOUT: 2,
        Outcome.BROKEN: 0,
    }


@pytest.mark.parametrize(("field", "name"), [("compose", "sum"), ("fidelity", "round")])
def test_an_unknown_name_is_a_configuration_error(field: str, name: str) -> None:
    config = RewardConfig()
    setattr(config, field, name)
    with pytest.raises(ConfigError, match=rf"rl\.reward\.{field} = '{name}'.*Use one of"):
        make_reward(config)
