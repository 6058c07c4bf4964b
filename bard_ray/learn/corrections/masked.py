"""`rl.correction.name=masked`: masked importance sampling (IcePop)."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.learn.correction import CORRECTIONS, Surrogate, TokenBatch, weighted
from bard_ray.learn.ratios import ratio


@CORRECTIONS.register("masked")
@dataclass(frozen=True)
class Masked:
    """Masks tokens whose importance weight is too small or too large.

    Math:
        w_i = q_i / b_i if low <= q_i / b_i <= high, else 0
        l_i = -w_i min(rho_i A_i, clip(rho_i) A_i), rho_i = p_i / q_i

    The denominator of the loss counts masked tokens too.

    Attributes:
        low: smallest weight that is kept, in 0..1.
        high: largest weight that is kept, at least 1.

    Source: Ling team 2025 (IcePop), arXiv 2510.18855; the defaults are the paper's limits.
    """

    low: float = 0.5
    high: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= 1 <= self.high:
            raise ValueError("low must be in 0..1, and high at least 1")

    def __call__(self, tokens: TokenBatch, clip_low: float, clip_high: float) -> Surrogate:
        """Loss of each token."""
        weight_N = ratio(tokens.proximal_N, tokens.behavior_N).detach()
        cut_N = (weight_N < self.low) | (weight_N > self.high)
        return weighted(tokens, weight_N.masked_fill(cut_N, 0.0), cut_N, clip_low, clip_high)
