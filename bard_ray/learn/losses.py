"""Losses on token log-probs: one equation a function. Axis N: trained tokens of a micro-batch.

Every loss is a sum over tokens. The caller divides by the token count of the whole step, over all
ranks and micro-batches, so the result does not depend on how the step was cut up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bard_ray.roles import LossSpec

# exp(20) is 5e8: such a token is clipped or hopeless either way,
# and what stays finite can be shown in the metrics.
MAX_LOG_RATIO = 20.0


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Trained tokens of one micro-batch.

    The fields are float32 vectors of length N, of which only `logprobs_N` carries gradients.
    """

    logprobs_N: Tensor
    entropy_N: Tensor
    advantages_N: Tensor
    behaviour_N: Tensor
    reference_N: Tensor


def nll(logprobs_N: Tensor) -> Tensor:
    """Negative log-likelihood.

    Maths:
        l_i = -log p_i

    Args:
        logprobs_N: log-probs of the target tokens, nats [N].

    Returns:
        Loss of each token, nats [N].

    Source: maximum likelihood.
    """
    return -logprobs_N


def ratio(logprobs_N: Tensor, behaviour_N: Tensor) -> Tensor:
    """Importance ratio of the policy over the behaviour policy.

    Maths:
        r_i = exp(log p_i - log b_i), the exponent limited to +-20

    Args:
        logprobs_N: log-probs under the policy, nats [N].
        behaviour_N: log-probs under the policy that sampled the tokens, nats [N].

    Returns:
        Ratios [N].

    Raises:
        ValueError: the shapes differ.

    Source: Schulman et al. 2017 (PPO), section 3; the limit is ours.
    """
    _check_shapes(logprobs_N, behaviour_N)
    return torch.exp((logprobs_N - behaviour_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))


def clipped_surrogate(
    ratio_N: Tensor, advantages_N: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """Pessimistic policy loss with separate clips below and above.

    Maths:
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
    return -torch.minimum(ratio_N * advantages_N, clipped_N * advantages_N)


def k3_kl(logprobs_N: Tensor, reference_N: Tensor) -> Tensor:
    """Estimate of KL(policy || reference) from tokens that the policy sampled.

    The estimate is unbiased and never negative.

    Maths:
        d_i = log q_i - log p_i, limited to +-20
        k_i = exp(d_i) - d_i - 1

    Args:
        logprobs_N: log p, log-probs under the policy, nats [N]; the gradient flows through it.
        reference_N: log q, log-probs under the reference, nats [N].

    Returns:
        Estimate at each token, nats [N].

    Raises:
        ValueError: the shapes differ.

    Source: Schulman 2020, "Approximating KL divergence", k3; Shao et al. 2024 (DeepSeekMath),
        equation 4.
    """
    _check_shapes(logprobs_N, reference_N)
    delta_N = (reference_N - logprobs_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.exp(delta_N) - delta_N - 1.0


def nll_loss(batch: TokenBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Summed negative log-likelihood, and the sums behind the metrics."""
    loss = nll(batch.logprobs_N).sum()
    return loss, {"loss": loss.detach(), "entropy": batch.entropy_N.sum()}


def grpo_loss(batch: TokenBatch, spec: LossSpec) -> tuple[Tensor, dict[str, Tensor]]:
    """Summed GRPO loss, and the sums behind the metrics.

    Maths:
        L = sum_i clipped_surrogate_i + kl_coef * sum_i k3_i

    Args:
        batch: tokens of one micro-batch.
        spec: clips and KL weight; with weight 0 the reference is not looked at.

    Returns:
        The loss, and detached sums over tokens; `ratio_max` is a maximum instead.

    Source: Shao et al. 2024 (DeepSeekMath), equation 3, with one token-level denominator (Yu et al.
        2025, DAPO).
    """
    ratio_N = ratio(batch.logprobs_N, batch.behaviour_N)
    loss = clipped_surrogate(ratio_N, batch.advantages_N, spec.clip_low, spec.clip_high).sum()
    stats = _ratio_stats(ratio_N.detach(), batch.advantages_N, spec) | {
        "entropy": batch.entropy_N.sum()
    }
    if spec.kl_coef:
        kl = k3_kl(batch.logprobs_N, batch.reference_N).sum()
        loss = loss + spec.kl_coef * kl
        stats["kl"] = kl.detach()
    return loss, stats | {"loss": loss.detach()}


def loss_of(batch: TokenBatch, spec: LossSpec) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss that `spec` names, and its sums."""
    return nll_loss(batch) if spec.kind == "nll" else grpo_loss(batch, spec)


def _ratio_stats(ratio_N: Tensor, advantages_N: Tensor, spec: LossSpec) -> dict[str, Tensor]:
    """Statistics of the ratio.

    A token counts as clipped where the clip takes its gradient away, so the sign of the advantage
    matters.
    """
    return {
        "ratio_mean": ratio_N.sum(),
        "ratio_max": ratio_N.max() if ratio_N.numel() else ratio_N.new_zeros(()),
        "clip_low": ((ratio_N < 1.0 - spec.clip_low) & (advantages_N < 0)).sum(),
        "clip_high": ((ratio_N > 1.0 + spec.clip_high) & (advantages_N > 0)).sum(),
    }


def _check_shapes(a_N: Tensor, b_N: Tensor) -> None:
    if a_N.shape != b_N.shape:
        raise ValueError(f"shapes differ: {tuple(a_N.shape)} and {tuple(b_N.shape)}")
