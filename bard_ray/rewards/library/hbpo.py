"""The reward of hierarchical budget policy optimization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.plugins import require_within
from bard_ray.rewards.parts import Doubles, GroupParts
from bard_ray.rewards.reward import REWARDS, RewardValues
from bard_ray.rewards.stats import BatchStats


@REWARDS.register("hbpo")
@dataclass(frozen=True, slots=True)
class Hbpo:
    """For groups with several budgets: nearly flat up to b, with a higher cap for small b.

    With u(l) = 4 cos(pi l / (2 limit)) and H = limit:

        R = min(u(L) - |b - L| / H, u(b))    right, L <= H, budget b
        R = u(L)                             right, L <= H, no budget
        R = wrong                            else
        A = z-score of R in the group + mean R of the rollouts with the same b - u(b)

    The second term of A compares the mean reward of a budget with its maximum u(b), so it is at
    most 0; without a budget it is 0. The authors' released code adds it twice, the formula once; it
    is added once here, as `advantage_shift_G`. Groups need mixed budgets (the authors': 512, 1,024,
    2,048 and 2,560 tokens). `rl.reward.fidelity` is not used.

    Attributes:
        limit: largest length H with a reward, tokens. Default 4096, the authors'.
        wrong: reward of a wrong, malformed or longer answer. Default -1, ours: below that of any
            right answer under a budget up to H.

    Source: HBPO, arXiv 2507.15844, and its released code.
    """

    limit: int = 4096
    wrong: float = -1.0

    def __post_init__(self) -> None:
        require_within("limit", self.limit, 1)
        require_within("wrong", self.wrong, high=0)

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        """Values in [wrong, 4]."""
        b_G, l_G = parts.budget_tokens_G, parts.tokens_G
        free_G = np.isposinf(b_G)
        cap_G = np.where(free_G, np.inf, self._utility(np.where(free_G, 0, b_G)))
        gap_G = np.where(free_G, 0, np.abs(np.where(free_G, 0, b_G) - l_G))
        right_G = np.minimum(self._utility(l_G) - gap_G / self.limit, cap_G)
        paid_G = (parts.accuracy_G > 0) & (l_G <= self.limit)
        rewards_G = np.where(paid_G | np.isnan(b_G), right_G, self.wrong)
        return RewardValues(rewards_G, advantage_shift_G=_shift(rewards_G, b_G, cap_G))

    def _utility(self, tokens: Doubles) -> Doubles:
        """u(l), and u(limit) = 0 above the limit."""
        return 4 * np.cos(np.pi * np.minimum(tokens, self.limit) / (2 * self.limit))


def _shift(rewards_G: Doubles, budgets_G: Doubles, cap_G: Doubles) -> Doubles:
    """Mean R of the rollouts with the same budget, minus the maximum u(b) of that budget."""
    same_GG = budgets_G[:, None] == budgets_G[None, :]
    means_G = same_GG @ rewards_G / np.maximum(same_GG.sum(axis=1), 1)
    return np.where(np.isposinf(budgets_G), 0.0, means_G - cap_G)
