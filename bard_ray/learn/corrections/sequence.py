"""`rl.correction.name=sequence`: one clipped ratio per sequence (GSPO)."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.learn.correction import CORRECTIONS, Surrogate, TokenBatch, clipped
from bard_ray.learn.ratios import ratio, sequence_ratio


@CORRECTIONS.register("sequence")
@dataclass(frozen=True)
class SequenceLevel:
    """One clipped ratio per sequence: the geometric mean of its token ratios.

    Math:
        s_i = exp(mean over the sequence of (log p - log b)), without gradient
        t_i = s_i p_i / p_i, the denominator without gradient
        l_i = -min(t_i A_i, clip(t_i, 1 - clip_low, 1 + clip_high) A_i)

    The geometric mean of many ratios is much closer to 1 than a single ratio, so the clips must be
    narrower: the paper uses 3e-4 and 4e-4, for data of the same weights and engine.

    Source: Zheng et al. 2025 (GSPO), arXiv 2507.18071, in the token form (GSPO-token); here the
        ratio is to the behavior policy.
    """

    def __call__(self, tokens: TokenBatch, clip_low: float, clip_high: float) -> Surrogate:
        """Loss of each token."""
        logprobs_N = tokens.logprobs_N
        frozen_N = logprobs_N.detach()
        mean_N = sequence_ratio(frozen_N, tokens.behavior_N, tokens.sequence_N)
        return clipped(
            mean_N * ratio(logprobs_N, frozen_N), tokens.advantages_N, clip_low, clip_high
        )
