"""The asymmetric shape: a tolerance around b, and a steeper slope above it than below."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.plugins import require_within
from bard_ray.rewards.fidelity import SHAPES, relative_deviation


@SHAPES.register("asymmetric")
@dataclass(frozen=True, slots=True)
class Asymmetric:
    """The budget as a target, with overruns penalized more than underruns.

    With d = (L - b) / b:

        f = max(0, 1 - over_slope (d - tolerance))      d > tolerance
        f = 1                                           |d| <= tolerance
        f = max(0, 1 - under_slope (|d| - tolerance))   d < -tolerance

    Attributes:
        tolerance: relative deviation that costs nothing. Default 0.05, ours.
        over_slope: fidelity lost per unit of d above. Default 8, ours.
        under_slope: fidelity lost per unit of d below. Default 4, ours.

    Source: ours, measured on the tiny task; with a weak penalty above b, RL exceeded the budget,
    since longer thinking is more accurate.
    """

    tolerance: float = 0.05
    over_slope: float = 8.0
    under_slope: float = 4.0

    def __post_init__(self) -> None:
        require_within("tolerance", self.tolerance, 0)
        require_within("over_slope", self.over_slope, 0)
        require_within("under_slope", self.under_slope, 0)

    def of_length(self, tokens: float, budget_tokens: float) -> float:
        """Fidelity in [0, 1]."""
        d = relative_deviation(tokens, budget_tokens)
        slope = self.over_slope if d > 0 else self.under_slope
        return max(0.0, 1.0 - slope * max(0.0, abs(d) - self.tolerance))
