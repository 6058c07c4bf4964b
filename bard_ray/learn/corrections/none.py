"""`rl.correction.name=none`: plain PPO, with the behavior policy as the old policy."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.learn.correction import CORRECTIONS, Surrogate, TokenBatch, clipped
from bard_ray.learn.ratios import ratio


@CORRECTIONS.register("none")
@dataclass(frozen=True)
class Uncorrected:
    """Plain PPO: the behavior policy is the old policy, and there is no further weight.

    Math:
        l_i = -min(r_i A_i, clip(r_i, 1 - clip_low, 1 + clip_high) A_i), r_i = p_i / b_i

    Source: Schulman et al. 2017 (PPO), equation 7.
    """

    def __call__(self, tokens: TokenBatch, clip_low: float, clip_high: float) -> Surrogate:
        """Loss of each token."""
        ratio_N = ratio(tokens.logprobs_N, tokens.behavior_N)
        return clipped(ratio_N, tokens.advantages_N, clip_low, clip_high)
