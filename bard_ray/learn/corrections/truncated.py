"""`rl.correction.name=truncated`: truncated importance sampling, the default."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.learn.correction import CORRECTIONS, Surrogate, TokenBatch, weighted
from bard_ray.learn.ratios import ratio


@CORRECTIONS.register("truncated")
@dataclass(frozen=True)
class Truncated:
    """Truncated importance sampling: the weight is at most `cap`, and no token is masked.

    Math:
        l_i = -min(q_i / b_i, cap) min(rho_i A_i, clip(rho_i) A_i), rho_i = p_i / q_i

    Attributes:
        cap: largest weight.

    Source: Ionides 2008 (truncated importance sampling); per token, between inference and training
        engine: Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL
        training".
    """

    cap: float = 2.0

    def __post_init__(self) -> None:
        if not self.cap > 0:
            raise ValueError("cap must be above 0")

    def __call__(self, tokens: TokenBatch, clip_low: float, clip_high: float) -> Surrogate:
        """Loss of each token."""
        weight_N = ratio(tokens.proximal_N, tokens.behavior_N).detach()
        return weighted(
            tokens, weight_N.clamp(max=self.cap), weight_N > self.cap, clip_low, clip_high
        )
