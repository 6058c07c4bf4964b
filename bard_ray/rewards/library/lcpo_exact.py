"""The reward of L1-Exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.plugins import require_within
from bard_ray.rewards.parts import GroupParts
from bard_ray.rewards.reward import REWARDS, RewardValues
from bard_ray.rewards.stats import BatchStats


@REWARDS.register("lcpo_exact")
@dataclass(frozen=True, slots=True)
class LcpoExact:
    """Accuracy minus alpha times the absolute deviation from the budget, in tokens.

        R = c - alpha |b - L|          c in {0, 1} accuracy; R = c without a budget

    This is a reward, not a fidelity shape: the second term is added, is unbounded, and applies to
    wrong answers too. A malformed rollout gets the reward of a wrong answer of its length.
    `rl.reward.fidelity` is not used, but the metrics still report it.

    Attributes:
        alpha: reward per token. Default 3e-4, the paper's, for budgets of 100 to 4,000 tokens.

    Source: L1-Exact, arXiv 2503.04697.
    """

    alpha: float = 3e-4

    def __post_init__(self) -> None:
        require_within("alpha", self.alpha, 0)

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        """Values of at most 1, without a lower bound."""
        limited_G = ~np.isposinf(parts.budget_tokens_G)
        distance_G = np.abs(np.where(limited_G, parts.budget_tokens_G, 0) - parts.tokens_G)
        return RewardValues(parts.accuracy_G - self.alpha * np.where(limited_G, distance_G, 0))
