"""Budgets all over the range, for every question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.compressor import ALLOCATIONS


@ALLOCATIONS.register("spaced")
@dataclass(frozen=True)
class Spaced:
    """Evenly spaced ranks among the K taught budgets: floor((i + u) * K / count), u ~ U(0, 1).

    Every budget is as likely as every other, but no question gets neighbors only, so the budgets
    of a question differ as much as they can. Source: ours (systematic sampling).
    """

    def choose(
        self, natural_tokens: int, taught: Sequence[int], count: int, generator: np.random.Generator
    ) -> list[int]:
        """Independent of the question."""
        count = min(count, len(taught))
        start = generator.random()
        return [taught[int((i + start) * len(taught) / count)] for i in range(count)]
