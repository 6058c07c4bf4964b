"""Losses on token log-probs, and the sums behind their metrics. Axis N: trained tokens.

Every loss is a sum over tokens. The caller divides by the token count of the whole step, over all
ranks and micro-batches, so the result does not depend on how the step was split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bard_ray.learn.correction import TokenBatch
from bard_ray.learn.ratios import k3_kl
from bard_ray.learn.spec import LossSpec
from bard_ray.learn.stats import Sums, policy_sums

if TYPE_CHECKING:
    from torch import Tensor


def nll(logprobs_N: Tensor) -> Tensor:
    """Negative log-likelihood.

    Math:
        l_i = -log p_i

    Args:
        logprobs_N: log-probs of the target tokens, nats [N].

    Returns:
        Loss of each token, nats [N].

    Source: maximum likelihood.
    """
    return -logprobs_N


def nll_loss(batch: TokenBatch) -> tuple[Tensor, Sums]:
    """Summed negative log-likelihood, and the sums behind the metrics."""
    loss = nll(batch.logprobs_N).sum()
    return loss, {"loss": loss.detach()}


def grpo_loss(batch: TokenBatch, spec: LossSpec) -> tuple[Tensor, Sums]:
    """Summed GRPO loss, and the sums behind the metrics.

    Math:
        L = sum_i surrogate_i + kl_coef * sum_i k3_i
        with the surrogate of `spec.correction`

    Args:
        batch: tokens of one micro-batch.
        spec: correction, clips and KL weight; with weight 0 the reference is not used.

    Returns:
        The loss, and the sums of `policy_sums`.

    Source: Shao et al. 2024 (DeepSeekMath), equation 3, with one token-level denominator (Yu et al.
        2025, DAPO).
    """
    surrogate = spec.correction(batch, spec.clip_low, spec.clip_high)
    loss = surrogate.loss_N.sum()
    sums = policy_sums(batch, surrogate)
    if spec.kl_coef:
        kl = k3_kl(batch.logprobs_N, batch.reference_N).sum()
        loss = loss + spec.kl_coef * kl
        sums["kl"] = kl.detach()
    return loss, sums | {"loss": loss.detach()}


def loss_of(batch: TokenBatch, spec: LossSpec) -> tuple[Tensor, Sums]:
    """The loss that `spec` selects, and its sums."""
    return nll_loss(batch) if spec.kind == "nll" else grpo_loss(batch, spec)
