"""Every rollout its own budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.budget.draw import SAMPLERS, Draw


@SAMPLERS.register("per_rollout")
@dataclass(frozen=True, slots=True)
class PerRolloutSampler:
    """G independent draws, p(b) = 1 / n: the group compares rollouts under different budgets.

    Source: ours.
    """

    def budgets(self, draw: Draw, generator: np.random.Generator) -> tuple[int, ...]:
        """G budgets."""
        return tuple(int(b) for b in generator.choice(draw.allowed, size=draw.group_size))
