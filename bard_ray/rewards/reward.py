"""From a graded group to its rewards.

A reward is a rule over `GroupParts` and `BatchStats`: it sees the whole group and statistics of the
run so far, and returns one value per rollout, and optionally one per segment. Which answers are
right, which rollouts are malformed and what leaked thinking costs is the same for all rules and
decided before: see the table of `bard_ray.rewards.parts`. The rules are in
`bard_ray.rewards.library`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from bard_ray.config.schema import RewardConfig
from bard_ray.errors import ConfigError, InvariantError
from bard_ray.metrics import own_metrics
from bard_ray.plugins import Registry
from bard_ray.records import Floats, Group, SegmentRole, budget_label
from bard_ray.rewards.fidelity import Fidelity, make_fidelity
from bard_ray.rewards.parts import Doubles, GroupParts, group_parts
from bard_ray.rewards.stats import BatchStats


@dataclass(frozen=True, slots=True)
class RewardValues:
    """What a rule returns.

    Attributes:
        rewards_G: one value per rollout. A group is not trained on if neither these nor the values
            of a segment vary.
        segments: values of single segments by role (`think`, `answer`), [G, S]: column s is the
            s-th segment of that role, NaN where a rollout has none. Their advantages are relative
            to their column; segments of other roles get the rollout's advantage.
        advantage_shift_G: added to every advantage of a rollout after normalization.
        metrics: one value per rollout for each name in the rule's `METRICS`; the step metric
            `reward/<name>` is the mean over the rollouts of the step, without NaN.
    """

    rewards_G: Doubles
    segments: Mapping[SegmentRole, Doubles] = field(default_factory=dict)
    advantage_shift_G: Doubles | None = None
    metrics: Mapping[str, Doubles] = field(default_factory=dict)


class Reward(Protocol):
    """A rule, a plug-in of `rl.reward`.

    A rule with its own metrics declares `METRICS: ClassVar[Mapping[str, Metric]]`.
    """

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        """The values of a whole group; a rule may compare its rollouts."""
        ...


REWARDS: Registry[Reward] = Registry("rl.reward", "bard_ray.rewards.library", method="__call__")


@dataclass(frozen=True, slots=True)
class RewardedGroup:
    """A group with its rewards, the parts they were computed from, and the rule's metrics [G]."""

    group: Group
    parts: GroupParts
    metrics: Mapping[str, Doubles] = field(default_factory=dict)


def make_rule(config: RewardConfig) -> Reward:
    """Build the rule of a configuration.

    Raises:
        ConfigError: there is no such reward, or its parameters are invalid.
    """
    return REWARDS.build(config.name, config.params)


@dataclass(frozen=True, slots=True)
class GroupReward:
    """A rule, with the fidelity shape and the answer limit that its parts are computed with."""

    rule: Reward
    fidelity: Fidelity
    answer_limit: int

    def parts(self, group: Group) -> GroupParts:
        """Accuracy, fidelity and lengths of a graded group, as the rule sees them.

        Raises:
            InvariantError: rollouts and verdicts differ in number, or one of them is broken.
        """
        return group_parts(group, self.fidelity, self.answer_limit)

    def rewarded(self, group: Group, stats: BatchStats) -> RewardedGroup:
        """The group with its rewards, float32, and the parts they were computed from.

        Raises:
            ConfigError: the rule needs budgets in tokens, and a budget has none.
            InvariantError: the group cannot be rewarded, or the rule's values are malformed.
        """
        parts = self.parts(group)
        values = self.rule(parts, stats)
        rewards_G = np.asarray(values.rewards_G, np.float32)
        _require_sound(parts, rewards_G)
        _require_declared(self.rule, values, len(group.rollouts))
        rewarded = replace(
            group,
            rewards_G=rewards_G,
            segment_rewards={role: _column(parts, v) for role, v in values.segments.items()},
            advantage_shift_G=_float32(values.advantage_shift_G),
        )
        return RewardedGroup(rewarded, parts, values.metrics)


def make_reward(config: RewardConfig) -> GroupReward:
    """Build rule and shape of a configuration.

    Raises:
        ConfigError: there is no such reward or shape, or its parameters are invalid.
    """
    return GroupReward(make_rule(config), make_fidelity(config.fidelity), config.answer_limit)


def _float32(values_G: Doubles | None) -> Floats | None:
    return None if values_G is None else np.asarray(values_G, np.float32)


def _column(parts: GroupParts, values_GS: Doubles) -> Floats:
    size = len(parts.group.rollouts)
    if values_GS.ndim != 2 or values_GS.shape[0] != size:
        msg = f"segment rewards must be [{size}, S], not {list(values_GS.shape)}"
        raise InvariantError(msg)
    return np.asarray(values_GS, np.float32)


def _require_declared(rule: Reward, values: RewardValues, size: int) -> None:
    declared = own_metrics(type(rule))
    for name, values_G in values.metrics.items():
        if name not in declared:
            msg = f"a reward reports {name!r}, which is not in its METRICS {sorted(declared)}"
            raise InvariantError(msg)
        if np.shape(values_G) != (size,):
            msg = f"the reward's metric {name} must be [{size}], not {list(np.shape(values_G))}"
            raise InvariantError(msg)


def _require_sound(parts: GroupParts, rewards_G: Floats) -> None:
    group = parts.group
    if rewards_G.shape != (len(group.rollouts),):
        msg = f"a reward returned {list(rewards_G.shape)} values for {len(group.rollouts)} rollouts"
        raise InvariantError(msg)
    for rollout, allowed, value in zip(
        group.rollouts, parts.budget_tokens_G, rewards_G, strict=True
    ):
        if not np.isfinite(value) and np.isnan(allowed):
            raise ConfigError(
                "rl.reward.name",
                budget_label(rollout.budget),
                "is a budget without a number of tokens, which this reward does not support",
                "Use token or effort budgets, or your own reward that supports this budget.",
            )
    if not np.isfinite(rewards_G).all():
        msg = f"group {group.number} has rewards that are not finite: {rewards_G.tolist()}"
        raise InvariantError(msg)
