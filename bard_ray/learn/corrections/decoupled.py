"""`rl.correction.name=decoupled`: decoupled PPO with an unbounded importance weight."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.learn.correction import CORRECTIONS, Surrogate, TokenBatch, weighted
from bard_ray.learn.ratios import ratio


@CORRECTIONS.register("decoupled")
@dataclass(frozen=True)
class Decoupled:
    """Decoupled PPO: the clip keeps p near q, an unbounded importance weight corrects for b.

    Math:
        l_i = -(q_i / b_i) min(rho_i A_i, clip(rho_i) A_i), rho_i = p_i / q_i

    The weight is unbiased but has high variance.

    Source: Hilton, Cobbe and Schulman 2022, "Batch size-invariance for policy optimization"; for
        asynchronous language models: Fu et al. 2025 (AReaL), arXiv 2505.24298.
    """

    def __call__(self, tokens: TokenBatch, clip_low: float, clip_high: float) -> Surrogate:
        """Loss of each token."""
        weight_N = ratio(tokens.proximal_N, tokens.behavior_N).detach()
        return weighted(tokens, weight_N, weight_N < 0.0, clip_low, clip_high)
