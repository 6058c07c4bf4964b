"""Small budgets as often as large ones, by order of magnitude."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bard_ray.budget.draw import SAMPLERS, Draw, one_of


@SAMPLERS.register("log_uniform")
@dataclass(frozen=True, slots=True)
class LogUniformSampler:
    """One budget a group, uniform in log b whatever the grid of budgets is.

        p(b_i) proportional to log b_(i+1) - log b_(i-1), one-sided at the ends

    Source: ours; L1 (arXiv 2503.04697) and BARD ask for budgets over more than a decade.
    """

    def budgets(self, draw: Draw, generator: np.random.Generator) -> tuple[int, ...]:
        """G times the same budget."""
        grid = draw.allowed
        logs = [math.log(b) for b in (grid[0], *grid, grid[-1])]
        weights = [after - before for before, after in zip(logs, logs[2:], strict=False)]
        return (one_of(grid, weights, generator),) * draw.group_size
