"""A group split over several budgets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.budget.draw import SAMPLERS, Draw
from bard_ray.plugins import require_within


@SAMPLERS.register("subgroups")
@dataclass(frozen=True, slots=True)
class SubgroupsSampler:
    """The same question under several budgets in one group.

    The first rollouts have the smallest budget, the last ones the largest; parts differ by at most
    one rollout.

    Attributes:
        count: budgets drawn for a group without repetition, p = 1 / n each. Default 4, HBPO's.
        fixed: these budgets for every group instead; those the schedule does not allow are left
            out.

    Source: HBPO, arXiv 2507.15844, splits groups over 512, 1024, 2048 and 2560; drawing is ours.
    """

    count: int = 4
    fixed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_within("count", self.count, 1)
        if not isinstance(self.fixed, tuple) or any(type(b) is not int for b in self.fixed):
            msg = f"fixed must be a list of whole numbers, not {self.fixed!r}"
            raise ValueError(msg)

    def budgets(self, draw: Draw, generator: np.random.Generator) -> tuple[int, ...]:
        """G budgets, ascending.

        Raises:
            ValueError: a fixed budget is not taught, or there are more budgets than rollouts.
        """
        unknown = sorted(set(self.fixed) - set(draw.taught))
        if unknown:
            msg = f"the fixed budgets {unknown} are not in budget.train"
            raise ValueError(msg)
        if max(len(self.fixed), 1 if self.fixed else self.count) > draw.group_size:
            size = f"rl.group_size={draw.group_size}"
            msg = f"a group of {size} rollouts cannot be split over more budgets"
            raise ValueError(msg)
        parts = self._parts(draw, generator)
        return tuple(parts[g * len(parts) // draw.group_size] for g in range(draw.group_size))

    def _parts(self, draw: Draw, generator: np.random.Generator) -> list[int]:
        if self.fixed:
            return sorted(set(self.fixed) & set(draw.allowed)) or [draw.allowed[0]]
        size = min(self.count, len(draw.allowed))
        return sorted(int(b) for b in generator.choice(draw.allowed, size=size, replace=False))
