"""Budgets uniform in their logarithm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.weighted_draws import draw_budgets


@ALLOCATIONS.register("log_uniform")
@dataclass(frozen=True)
class LogUniformAllocation:
    """Budgets drawn without replacement, uniform in log b for any grid of budgets.

        w_i = log b_(i+1) - log b_(i-1), one-sided at the ends

    On an evenly spaced grid w is about 1 / b. Source: ours; weights as in the RL sampler of that
    name.
    """

    def choose(
        self,
        natural_tokens: int,
        budgets: Sequence[int],
        count: int,
        generator: np.random.Generator,
    ) -> list[int]:
        """Independent of the chain."""
        logs = [math.log(budget) for budget in (budgets[0], *budgets, budgets[-1])]
        weights = [after - before for before, after in zip(logs, logs[2:], strict=False)]
        return draw_budgets(budgets, weights if len(budgets) > 1 else [1.0], count, generator)
