"""`rl.correction.name=sequence`."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.learn.correction import CORRECTIONS, Surrogate, TokenBatch, clipped
from bard_ray.learn.ratios import ratio, sequence_ratio


@CORRECTIONS.register("sequence")
@dataclass(frozen=True)
class SequenceLevel:
    """One clipped ratio a sequence: the geometric mean of its tokens' ratios.

    Math:
        s_i = exp(mean over the sequence of (log p - log b)), without gradient
        t_i = s_i p_i / p_i, the denominator without gradient
        l_i = -min(t_i A_i, clip(t_i, 1 - clip_low, 1 + clip_high) A_i)

    A mean of many log-ratios stays much nearer to 1 than one of them does, so sensible clips are
    narrower: the paper's are 3e-4 and 4e-4, for data of the same weights and engine.

    Source: Zheng et al. 2025 (GSPO), arXiv 2507.18071, in its token form (GSPO-token); here against
        the behavior policy.
    """

    def __call__(self, tokens: TokenBatch, clip_low: float, clip_high: float) -> Surrogate:
        """Loss of each token."""
        logprobs_N = tokens.logprobs_N
        frozen_N = logprobs_N.detach()
        mean_N = sequence_ratio(frozen_N, tokens.behavior_N, tokens.sequence_N)
        return clipped(
            mean_N * ratio(logprobs_N, frozen_N), tokens.advantages_N, clip_low, clip_high
        )
