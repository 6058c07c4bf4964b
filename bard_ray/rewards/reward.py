"""From a graded group to its rewards.

| what happened | reward |
|---|---|
| correct or wrong answer | composition of accuracy (1 or 0) and budget fidelity |
| unparsable answer, time or memory limit of grading | as wrong: accuracy 0 |
| thinking never closed, or cut off by the length limit | 0, whatever the composition |
| grading broke, or the rollout was aborted | none: the policy did not do it; see `has_broken` |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bard_ray.config.schema import RewardConfig
from bard_ray.errors import ConfigError, InvariantError
from bard_ray.records import Floats, Group, Outcome, Rollout, Verdict
from bard_ray.rewards.fidelity import Fidelity, make_fidelity, rollout_fidelity

UNFINISHED_REWARD = 0.0


class Reward(Protocol):
    """Rewards of a whole group, so that a reward may compare its rollouts."""

    @property
    def fidelity(self) -> Fidelity:
        """The shape of the second part, for the metrics."""
        ...

    def __call__(self, group: Group) -> Floats:
        """G rewards, float32.

        Raises:
            InvariantError: rollouts and verdicts do not match, or one of them is broken.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProductReward:
    """c x f: fidelity pays only for a correct answer, so short wrong answers earn nothing.

    Source: BARD, abstract.
    """

    fidelity: Fidelity

    def __call__(self, group: Group) -> Floats:
        """G rewards in [0, 1]."""
        return _per_rollout(group, lambda c, f: c * f, self.fidelity)


@dataclass(frozen=True, slots=True)
class AdditiveReward:
    """c + weight x f: an ablation; a policy can live on fidelity alone.

    Source: BARD's ablation, weight ours.
    """

    fidelity: Fidelity
    weight: float = 0.5

    def __call__(self, group: Group) -> Floats:
        """G rewards in [0, 1 + weight]."""
        return _per_rollout(group, lambda c, f: c + self.weight * f, self.fidelity)


def accuracy(verdict: Verdict) -> float:
    """1 for a correct answer, else 0."""
    return 1.0 if verdict.outcome is Outcome.CORRECT else 0.0


def is_unfinished(rollout: Rollout) -> bool:
    """Was it cut off, or did it never close its thinking?"""
    return rollout.finish == "length" or not rollout.closed


def has_broken(group: Group) -> bool:
    """Does the group hold a verdict or rollout that the policy is not to blame for?

    Such a group must be failed, not rewarded.
    """
    return any(v.outcome is Outcome.BROKEN for v in group.verdicts) or any(
        r.finish == "abort" for r in group.rollouts
    )


def count_outcomes(groups: Iterable[Group]) -> dict[Outcome, int]:
    """Number of verdicts of each outcome, all outcomes listed."""
    counts = Counter(verdict.outcome for group in groups for verdict in group.verdicts)
    return {outcome: counts[outcome] for outcome in Outcome}


def make_reward(config: RewardConfig) -> Reward:
    """Reward by its configuration.

    Raises:
        ConfigError: no composition or fidelity shape has that name.
    """
    fidelity = make_fidelity(config)
    rewards: dict[str, Reward] = {
        "product": ProductReward(fidelity),
        "additive": AdditiveReward(fidelity, config.fidelity_weight),
    }
    if config.compose not in rewards:
        field, rule = "rl.reward.compose", "is no known composition"
        raise ConfigError(field, config.compose, rule, f"Use one of {', '.join(rewards)}.")
    return rewards[config.compose]


def _per_rollout(
    group: Group, compose: Callable[[float, float], float], fidelity: Fidelity
) -> Floats:
    _check(group)
    rewards = [
        UNFINISHED_REWARD
        if is_unfinished(r)
        else compose(accuracy(v), rollout_fidelity(r, fidelity))
        for r, v in zip(group.rollouts, group.verdicts, strict=True)
    ]
    return np.asarray(rewards, np.float32)


def _check(group: Group) -> None:
    if len(group.rollouts) != len(group.verdicts):
        counts = f"{len(group.rollouts)} rollouts and {len(group.verdicts)} verdicts"
        msg = f"group {group.number} has {counts}"
        raise InvariantError(msg)
    if has_broken(group):
        what = "holds a broken verdict or an aborted rollout and must be failed, not rewarded"
        msg = f"group {group.number} {what}"
        raise InvariantError(msg)
