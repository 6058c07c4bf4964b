"""The additive reward."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.plugins import require_within
from bard_ray.rewards.parts import GroupParts
from bard_ray.rewards.reward import REWARDS, RewardValues
from bard_ray.rewards.stats import BatchStats


@REWARDS.register("additive")
@dataclass(frozen=True, slots=True)
class Additive:
    """Accuracy plus weighted fidelity; an ablation, since the policy learns short wrong answers.

        R = c + weight f(L, b)         c in {0, 1} accuracy; R in [0, 1 + weight]

    Attributes:
        weight: weight of fidelity, in [0, 1]. Default 0.5, ours.

    Source: the comparison of BARD (arXiv 2511.01470).
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        require_within("weight", self.weight, 0, 1)

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        """Values in [0, 1 + weight]."""
        return RewardValues(parts.accuracy_G + self.weight * parts.fidelity_G)
