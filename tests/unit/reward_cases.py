"""Graded groups for reward tests; by default a rollout has 20 thinking tokens and budget 20."""

from __future__ import annotations

import dataclasses
from typing import Any

from bard_ray.config.schema import FidelityConfig, RewardConfig
from bard_ray.records import (
    Budget,
    Group,
    GroupRequest,
    Message,
    Outcome,
    Question,
    Rollout,
    TokenBudget,
    Verdict,
)
from bard_ray.rewards.reward import make_reward
from bard_ray.rewards.stats import BatchStats

TWENTY = TokenBudget(20)
QUESTION = Question("q", (Message("user", "1+1?"),), "2", "integer")
RIGHT, WRONG = Outcome.CORRECT, Outcome.WRONG


def rollout(thinking_tokens: int = 20, budget: Budget = TWENTY, **changes: Any) -> Rollout:
    plain = Rollout(budget, (), "stop", thinking_tokens, closed=True, answer_text="")
    return dataclasses.replace(plain, **changes)


def group(*graded: tuple[Rollout, Outcome]) -> Group:
    request = GroupRequest(7, QUESTION, tuple(r.budget for r, _ in graded), seed=0)
    return Group(
        request, tuple(r for r, _ in graded), tuple(Verdict(outcome) for _, outcome in graded)
    )


def reward_config(name: str = "product", shape: str = "asymmetric", **params: Any) -> RewardConfig:
    return RewardConfig(name, params, answer_limit=16, fidelity=FidelityConfig(shape))


def rewarded(config: RewardConfig, graded: Group, stats: BatchStats | None = None) -> Group:
    return make_reward(config).rewarded(graded, stats or BatchStats()).group


def rewards(config: RewardConfig, graded: Group, stats: BatchStats | None = None) -> list[float]:
    rewards_G = rewarded(config, graded, stats).rewards_G
    assert rewards_G is not None
    return [round(float(reward), 6) for reward in rewards_G]
