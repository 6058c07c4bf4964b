"""The triangular shape: a peak at b without a tolerance."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.plugins import require_within
from bard_ray.rewards.fidelity import SHAPES, relative_deviation


@SHAPES.register("triangular")
@dataclass(frozen=True, slots=True)
class Triangular:
    """The budget as a target, with linear decay on both sides and no tolerance.

        f = max(0, 1 - |L / b - 1| / width)

    Attributes:
        width: relative deviation at which f reaches 0. Default 1, ours: 0 at L = 0 and at L = 2 b.

    Source: the triangular reward of Train Long, Think Short, arXiv 2508.08940; its exact constants
    are not public, so the width is ours.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        require_within("width", self.width, 0, open_low=True)

    def of_length(self, tokens: float, budget_tokens: float) -> float:
        """Fidelity in [0, 1]."""
        return max(0.0, 1.0 - abs(relative_deviation(tokens, budget_tokens)) / self.width)
