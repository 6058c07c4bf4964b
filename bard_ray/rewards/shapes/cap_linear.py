"""The linear cap: constant up to b, then linear decay."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.plugins import require_within
from bard_ray.rewards.fidelity import SHAPES, relative_deviation


@SHAPES.register("cap_linear")
@dataclass(frozen=True, slots=True)
class CapLinear:
    """The budget as an upper bound with linear decay above it; shorter thinking costs nothing.

        f = 1                                            L <= b (1 + tolerance)
        f = max(0, 1 - (L / b - 1 - tolerance) / slope)  else

    Attributes:
        tolerance: relative overrun that costs nothing. Default 0.1, ours.
        slope: further relative overrun over which f falls from 1 to 0. Default 0.5, ours.

    Source: ours; BARD (arXiv 2511.01470) treats b as an upper bound, but its equation is not
    public.
    """

    tolerance: float = 0.1
    slope: float = 0.5

    def __post_init__(self) -> None:
        require_within("tolerance", self.tolerance, 0)
        require_within("slope", self.slope, 0, open_low=True)

    def of_length(self, tokens: float, budget_tokens: float) -> float:
        """Fidelity in [0, 1]."""
        d = relative_deviation(tokens, budget_tokens)
        return max(0.0, 1.0 - max(0.0, d - self.tolerance) / self.slope)
