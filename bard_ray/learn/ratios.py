"""Building blocks of policy losses: ratios, clips, KL estimates. Axis N: trained tokens.

This module uses methods of tensors only and does not import torch, since the driver imports the
corrections to check their names and must not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# exp(20) is 5e8. A token with such a ratio is clipped or useless anyway, and the limit keeps the
# metrics finite.
MAX_LOG_RATIO = 20.0


def ratio(logprobs_N: Tensor, behavior_N: Tensor) -> Tensor:
    """Importance ratio of the policy over the behavior policy.

    Math:
        r_i = exp(log p_i - log b_i), the exponent limited to +-20

    Args:
        logprobs_N: log-probs under the policy, nats [N].
        behavior_N: log-probs under the policy that sampled the tokens, nats [N].

    Returns:
        Ratios [N].

    Raises:
        ValueError: the shapes differ.

    Source: Schulman et al. 2017 (PPO), section 3; the limit is ours.
    """
    _check_shapes(logprobs_N, behavior_N)
    return (logprobs_N - behavior_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def sequence_ratio(logprobs_N: Tensor, behavior_N: Tensor, sequence_N: Tensor) -> Tensor:
    """Geometric mean of the token ratios of a sequence, repeated for each of its tokens.

    Math:
        s_i = exp(mean over the trained tokens j of i's sequence of (log p_j - log b_j))

    Args:
        logprobs_N: log-probs under the policy, nats [N].
        behavior_N: log-probs under the policy that sampled the tokens, nats [N].
        sequence_N: index of each token's sequence, int64 [N], from 0.

    Returns:
        Ratios [N], equal within a sequence.

    Raises:
        ValueError: the shapes differ.

    Source: Zheng et al. 2025 (GSPO), arXiv 2507.18071, definition of s_i.
    """
    _check_shapes(logprobs_N, behavior_N)
    _check_shapes(logprobs_N, sequence_N)
    if not sequence_N.numel():
        return ratio(logprobs_N, behavior_N)
    zeros_S = logprobs_N.new_zeros(int(sequence_N.max()) + 1)
    total_S = zeros_S.index_add(0, sequence_N, logprobs_N - behavior_N)
    count_S = zeros_S.index_add(0, sequence_N, logprobs_N.new_ones(logprobs_N.shape))
    mean_S = total_S / count_S.clamp(min=1.0)
    return mean_S.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp().index_select(0, sequence_N)


def clipped_surrogate(
    ratio_N: Tensor, advantages_N: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """PPO's clipped policy loss, with separate lower and upper clips.

    Math:
        l_i = -min(r_i * A_i, clip(r_i, 1 - clip_low, 1 + clip_high) * A_i)

    Args:
        ratio_N: importance ratios [N].
        advantages_N: advantages [N].
        clip_low: distance of the lower clip from 1.
        clip_high: distance of the upper clip from 1.

    Returns:
        Loss of each token [N].

    Raises:
        ValueError: the shapes differ.

    Source: Schulman et al. 2017 (PPO), equation 7; clip_high > clip_low: Yu et al. 2025 (DAPO),
        equation 10.
    """
    _check_shapes(ratio_N, advantages_N)
    clipped_N = ratio_N.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -(ratio_N * advantages_N).minimum(clipped_N * advantages_N)


def clip_acts(ratio_N: Tensor, advantages_N: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """True where the clip removes the gradient of `clipped_surrogate`, bool [N].

    Math:
        (r_i < 1 - clip_low and A_i < 0) or (r_i > 1 + clip_high and A_i > 0)

    Args:
        ratio_N: importance ratios [N].
        advantages_N: advantages [N].
        clip_low: distance of the lower clip from 1.
        clip_high: distance of the upper clip from 1.

    Returns:
        True where the clip is active.

    Raises:
        ValueError: the shapes differ.

    Source: derivative of `clipped_surrogate`.
    """
    _check_shapes(ratio_N, advantages_N)
    below_N = (ratio_N < 1.0 - clip_low) & (advantages_N < 0)
    return below_N | ((ratio_N > 1.0 + clip_high) & (advantages_N > 0))


def k3_kl(logprobs_N: Tensor, reference_N: Tensor) -> Tensor:
    """k3 estimate of KL(p || q) from tokens that p sampled; unbiased and never negative.

    Math:
        d_i = log q_i - log p_i, limited to +-20
        k_i = exp(d_i) - d_i - 1

    Args:
        logprobs_N: log p, nats [N]; in the KL term of the loss p is the policy, with gradient.
        reference_N: log q, nats [N].

    Returns:
        Estimate at each token, nats [N].

    Raises:
        ValueError: the shapes differ.

    Source: Schulman 2020, "Approximating KL divergence", k3; Shao et al. 2024 (DeepSeekMath),
        equation 4.
    """
    _check_shapes(logprobs_N, reference_N)
    delta_N = (reference_N - logprobs_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return delta_N.exp() - delta_N - 1.0


def _check_shapes(a_N: Tensor, b_N: Tensor) -> None:
    if a_N.shape != b_N.shape:
        raise ValueError(f"shapes differ: {tuple(a_N.shape)} and {tuple(b_N.shape)}")
