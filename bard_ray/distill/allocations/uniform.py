"""Every budget as often as every other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.compressor import ALLOCATIONS


@ALLOCATIONS.register("uniform")
@dataclass(frozen=True)
class Uniform:
    """A random subset of the taught budgets, all subsets alike. Source: ours (tiny task)."""

    def choose(
        self, natural_tokens: int, taught: Sequence[int], count: int, generator: np.random.Generator
    ) -> list[int]:
        """Independent of the question."""
        return sorted(generator.permutation(np.array(taught))[:count].tolist())
