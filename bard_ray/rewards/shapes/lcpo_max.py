"""The shape of L1-Max: linear in the absolute deviation from b."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.plugins import require_within
from bard_ray.rewards.fidelity import SHAPES


@SHAPES.register("lcpo_max")
@dataclass(frozen=True, slots=True)
class LcpoMax:
    """Linear in the tokens left: shorter thinking earns more, and L = b gives `delta`.

        f = clip(alpha (b - L) + delta, 0, 1)

    The deviation is absolute, so the shape is meant for budgets of thousands of tokens: with the
    defaults f reaches 0 at 1,667 tokens over the budget and 1 at 1,667 under it.

    Attributes:
        alpha: fidelity per token. Default 3e-4, the paper's.
        delta: fidelity at L = b. Default 0.5, the paper's.

    Source: L1-Max, arXiv 2503.04697; its budgets are uniform over 100 to 4,000 tokens.
    """

    alpha: float = 3e-4
    delta: float = 0.5

    def __post_init__(self) -> None:
        require_within("alpha", self.alpha, 0, open_low=True)
        require_within("delta", self.delta, 0, 1)

    def of_length(self, tokens: float, budget_tokens: float) -> float:
        """Fidelity in [0, 1]."""
        return min(1.0, max(0.0, self.alpha * (budget_tokens - tokens) + self.delta))
