"""Every budget as often as every other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bard_ray.budget.draw import SAMPLERS, Draw


@SAMPLERS.register("uniform")
@dataclass(frozen=True, slots=True)
class UniformSampler:
    """One budget a group, so that advantages compare like with like: p(b) = 1 / n.

    Source: ours.
    """

    def budgets(self, draw: Draw, generator: np.random.Generator) -> tuple[int, ...]:
        """G times the same budget."""
        drawn = draw.allowed[int(generator.integers(len(draw.allowed)))]
        return (drawn,) * draw.group_size
