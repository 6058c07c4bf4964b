"""The exponential cap: constant up to b, then exponential decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bard_ray.plugins import require_within
from bard_ray.rewards.fidelity import SHAPES, relative_deviation


@SHAPES.register("exp")
@dataclass(frozen=True, slots=True)
class ExponentialCap:
    """The budget as an upper bound with exponential decay above it.

    It never reaches 0, so two different overruns have different fidelity.

        f = exp(-k max(0, L / b - 1))

    Attributes:
        k: decay per unit of relative overrun. Default 5, ours: an overrun of 14 % halves f.

    Source: ours.
    """

    k: float = 5.0

    def __post_init__(self) -> None:
        require_within("k", self.k, 0)

    def of_length(self, tokens: float, budget_tokens: float) -> float:
        """Fidelity in [0, 1]."""
        return math.exp(-self.k * max(0.0, relative_deviation(tokens, budget_tokens)))
