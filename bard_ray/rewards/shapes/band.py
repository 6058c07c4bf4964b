"""The band shape: a tolerance around b, and the same slope on both sides."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.plugins import require_within
from bard_ray.rewards.fidelity import SHAPES, relative_deviation


@SHAPES.register("band")
@dataclass(frozen=True, slots=True)
class Band:
    """The budget as a target, symmetric.

        f = 1                                              |L / b - 1| <= tolerance
        f = max(0, 1 - (|L / b - 1| - tolerance) / slope)  else

    Attributes:
        tolerance: relative deviation that costs nothing. Default 0.1, ours.
        slope: further relative deviation over which f falls from 1 to 0. Default 0.5, ours.

    Source: ours, for budgets that mean "use about b".
    """

    tolerance: float = 0.1
    slope: float = 0.5

    def __post_init__(self) -> None:
        require_within("tolerance", self.tolerance, 0)
        require_within("slope", self.slope, 0, open_low=True)

    def of_length(self, tokens: float, budget_tokens: float) -> float:
        """Fidelity in [0, 1]."""
        d = abs(relative_deviation(tokens, budget_tokens))
        return max(0.0, 1.0 - max(0.0, d - self.tolerance) / self.slope)
