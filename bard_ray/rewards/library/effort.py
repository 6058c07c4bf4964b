"""The reward of adaptive effort control."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.rewards.parts import GroupParts
from bard_ray.rewards.reward import REWARDS, RewardValues
from bard_ray.rewards.stats import BatchStats


@REWARDS.register("effort")
@dataclass(frozen=True, slots=True)
class Effort:
    """A right answer within the allowed effort, all or nothing.

        R = c [L <= r mean(L)]         c in {0, 1} accuracy, r the effort, mean over the group

    A budget of b tokens allows b, and no budget allows anything. A group in which all rollouts have
    the same r < 1 moves its own mean down without end; mix efforts, or efforts and no budget,
    within a group. `rl.reward.fidelity` does not enter.

    Source: e1, Adaptive Effort Control, arXiv 2510.27042; over which rollouts its mean goes is not
    public, so the group is ours.
    """

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        """Values 0 or 1."""
        within_G = np.where(
            np.isnan(parts.budget_tokens_G), np.nan, parts.tokens_G <= parts.budget_tokens_G
        )
        return RewardValues(parts.accuracy_G * within_G)
