"""The AutoThink reward: it trains the model to skip thinking where it can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.plugins import require_within
from bard_ray.rewards.parts import Doubles, GroupParts, is_skipped
from bard_ray.rewards.reward import REWARDS, RewardValues
from bard_ray.rewards.stats import BatchStats


@REWARDS.register("autothink")
@dataclass(frozen=True, slots=True)
class AutoThink:
    """Rewards skipped thinking, in three stages of training: balanced, plain, length-aware.

        base                     right   wrong
        with thinking             +1       0
        skipped thinking          +2      -1

        stage 1: base - a,  a = clip(2 (share - 1/2), 0, 1), share of the rollout's mode
        stage 2: base
        stage 3: base + exp(-decay z) - 1 if right, base + 1 - exp(-decay z) if wrong,
                 z = z-score of L among the group's right (or wrong) rollouts

    The mode is thinking or skipped thinking. Its share is the running mean of `BatchStats` (in the
    paper: of the current batch), so the first step is not balanced. `rl.reward.fidelity` is not
    used.

    Attributes:
        balance_steps: optimizer steps of stage 1. Default 200, ours.
        plain_steps: optimizer steps of stage 2, before stage 3. Default 200, ours.
        decay: decay rate of the length term. Default 0.05, the authors'.

    Source: AutoThink, arXiv 2505.10832, and its released code.
    """

    balance_steps: int = 200
    plain_steps: int = 200
    decay: float = 0.05

    def __post_init__(self) -> None:
        require_within("balance_steps", self.balance_steps, 0)
        require_within("plain_steps", self.plain_steps, 0)
        require_within("decay", self.decay, 0)

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        """Values in [-2, 2] before stage 3, and slightly outside in it."""
        skipped_G = np.array([is_skipped(r) for r in parts.group.rollouts])
        right_G = parts.accuracy_G > 0
        base_G = np.where(skipped_G, np.where(right_G, 2.0, -1.0), np.where(right_G, 1.0, 0.0))
        if stats.step < self.balance_steps:
            return RewardValues(base_G - _excess(skipped_G, stats))
        if stats.step < self.balance_steps + self.plain_steps:
            return RewardValues(base_G)
        return RewardValues(base_G + self._length_term(parts.tokens_G, right_G))

    def _length_term(self, tokens_G: Doubles, right_G: np.ndarray) -> Doubles:
        z_G = np.where(right_G, _z_scores(tokens_G, right_G), _z_scores(tokens_G, ~right_G))
        gain_G: Doubles = np.exp(-self.decay * z_G) - 1
        return np.where(right_G, gain_G, -gain_G)


def _excess(skipped_G: np.ndarray, stats: BatchStats) -> Doubles:
    """The term a of each rollout: twice the excess of its mode's share over one half."""
    share = 0.5 if stats.overall is None else stats.overall.skipped
    shares_G = np.where(skipped_G, share, 1 - share)
    return np.clip(2 * (shares_G - 0.5), 0, 1)


def _z_scores(values_G: Doubles, chosen_G: np.ndarray) -> Doubles:
    """z-scores by the mean and population std of the chosen values; 0 where their std is 0."""
    if not chosen_G.any() or np.ptp(values_G[chosen_G]) == 0:
        return np.zeros_like(values_G)
    return (values_G - values_G[chosen_G].mean()) / values_G[chosen_G].std()
