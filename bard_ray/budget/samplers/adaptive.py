"""Budgets at which there is something to learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.budget.draw import SAMPLERS, Draw, one_of
from bard_ray.plugins import require_within


@SAMPLERS.register("adaptive")
@dataclass(frozen=True, slots=True)
class AdaptiveSampler:
    """One budget a group, the rarer the nearer its answers are to being all right or all wrong.

        w(b) = floor + (1 - floor) 4 a (1 - a),  a the running accuracy under b; a = 1/2 before any

    The accuracies are those of `bard_ray.rewards.stats`: they change at step boundaries in
    admission order and are saved with the run. They are of answers, not of groups: a budget under
    which half of the questions are always answered rightly and half never looks best, though none
    of its groups tells right from wrong.

    Attributes:
        floor: weight of a budget with nothing to learn, in (0, 1], so that none is forgotten.
            Default 0.2.

    Source: ours; 4 a (1 - a) is the variance of a right-or-wrong reward, relative to its largest.
    """

    floor: float = 0.2

    def __post_init__(self) -> None:
        require_within("floor", self.floor, 0, 1, open_low=True)

    def budgets(self, draw: Draw, generator: np.random.Generator) -> tuple[int, ...]:
        """G times the same budget."""
        accuracies = [draw.accuracy.get(b, 0.5) for b in draw.allowed]
        weights = [self.floor + (1 - self.floor) * 4 * a * (1 - a) for a in accuracies]
        return (one_of(draw.allowed, weights, generator),) * draw.group_size
