"""Small budgets as often as large ones, by order of magnitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.compressor import ALLOCATIONS
from bard_ray.distill.weighted_draws import draw_budgets


@ALLOCATIONS.register("log_uniform")
@dataclass(frozen=True)
class LogUniform:
    """Drawn without replacement, uniform in log b whatever the grid of budgets is.

        w_i = log b_(i+1) - log b_(i-1), one-sided at the ends

    On an even grid w is nearly 1 / b. Source: ours; weights as in the RL sampler of that name.
    """

    def choose(
        self, natural_tokens: int, taught: Sequence[int], count: int, generator: np.random.Generator
    ) -> list[int]:
        """Independent of the question."""
        logs = [math.log(budget) for budget in (taught[0], *taught, taught[-1])]
        weights = [after - before for before, after in zip(logs, logs[2:], strict=False)]
        return draw_budgets(taught, weights if len(taught) > 1 else [1.0], count, generator)
