"""Trial of a reward on a synthetic group, so that its errors are found before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bard_ray.config.schema import RewardConfig
from bard_ray.errors import ConfigError, InvariantError
from bard_ray.records import (
    Budget,
    Group,
    GroupRequest,
    Message,
    Outcome,
    Question,
    Rollout,
    Segment,
    SegmentRole,
    Verdict,
)
from bard_ray.rewards.fidelity import make_fidelity
from bard_ray.rewards.reward import make_reward, make_rule
from bard_ray.rewards.stats import BatchStats


def reward_problems(config: RewardConfig, budgets: Sequence[Budget]) -> Iterator[ConfigError]:
    """Errors of the configured reward and shape, or of rewarding these budgets.

    Building the plug-ins checks names and parameters; if both can be built, the reward is tried.
    """
    found = [
        *_error_of(lambda: make_rule(config)),
        *_error_of(lambda: make_fidelity(config.fidelity)),
    ]
    yield from found or _error_of(lambda: try_out(config, budgets))


def try_out(config: RewardConfig, budgets: Sequence[Budget]) -> None:
    """Reward one right and one wrong rollout of each budget, as one group.

    Raises:
        ConfigError: the reward cannot be built, does not support one of the budgets, or returns
            values that do not match the group.
    """
    rollouts = tuple(_rollout(budget) for budget in budgets for _ in range(2))
    verdicts = (Verdict(Outcome.CORRECT), Verdict(Outcome.WRONG)) * len(budgets)
    question = Question("trial", (Message("user", "?"),), "0")
    request = GroupRequest(0, question, tuple(r.budget for r in rollouts), seed=0)
    try:
        make_reward(config).rewarded(Group(request, rollouts, verdicts), BatchStats())
    except InvariantError as error:
        rule = f"returns invalid values for a group ({error})"
        fix = "docs/rewards.md describes what a reward returns."
        raise ConfigError("rl.reward.name", config.name, rule, fix) from error


def _error_of(action: Callable[[], object]) -> Iterator[ConfigError]:
    """The `ConfigError` that an action raises, if any."""
    try:
        action()
    except ConfigError as error:
        yield error


def _rollout(budget: Budget) -> Rollout:
    segments = (_segment("prompt", 2), _segment("think", 3), _segment("answer", 2))
    return Rollout(budget, segments, "stop", 2, closed=True, answer_text="0", answer_tokens=1)


def _segment(role: SegmentRole, size: int) -> Segment:
    sampled = role != "prompt"
    return Segment(
        role,
        np.zeros(size, np.int32),
        np.zeros(size, np.float32),
        np.full(size, sampled, np.bool_),
        np.full(size, 0 if sampled else -1, np.int32),
    )
