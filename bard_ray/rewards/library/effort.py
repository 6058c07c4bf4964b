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
    """1 for a right answer within the allowed effort, else 0.

        R = c [L <= r mean(L)]         c in {0, 1} accuracy, r the effort, mean over the group

    A budget of b tokens allows L <= b; without a budget every L is allowed. If all rollouts of a
    group have the same r < 1, their mean length decreases without bound; mix efforts, or efforts
    and no budget, within a group. `rl.reward.fidelity` is not used.

    Source: e1, Adaptive Effort Control, arXiv 2510.27042; the paper does not say over which
    rollouts the mean is taken, so taking the group is ours.
    """

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        """Values 0 or 1."""
        within_G = np.where(
            np.isnan(parts.budget_tokens_G), np.nan, parts.tokens_G <= parts.budget_tokens_G
        )
        return RewardValues(parts.accuracy_G * within_G)
