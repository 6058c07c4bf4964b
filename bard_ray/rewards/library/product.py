"""The product reward."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.rewards.parts import GroupParts
from bard_ray.rewards.reward import REWARDS, RewardValues
from bard_ray.rewards.stats import BatchStats


@REWARDS.register("product")
@dataclass(frozen=True, slots=True)
class Product:
    """Accuracy times fidelity: a wrong answer earns nothing, however well it meets the budget.

        R = c f(L, b)                  c in {0, 1} accuracy; R in [0, 1]

    Source: BARD (arXiv 2511.01470), abstract.
    """

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        """Values in [0, 1]."""
        return RewardValues(parts.accuracy_G * parts.fidelity_G)
