"""Off-policy corrections: the policy loss on tokens that the behavior policy sampled.

A step involves three policies. The behavior policy b sampled the tokens; it differs by older
weights and by the numerics of the inference engine. The proximal policy q is the policy at the
start of the step. The policy p is the one being optimized. A correction turns their log-probs into
a loss, and reports which tokens it clipped, truncated or masked. The built-in corrections are in
`bard_ray.learn.corrections`, one per file.

The loop takes one optimizer step per batch, and gradients of micro-batches are accumulated without
an update, so p = q in value throughout a step: the proximal log-probs are the policy's own,
detached, and no second forward pass is needed. (Several optimizer steps per batch would need one.)
Each correction then reduces to a weight w_i of the policy gradient `w_i A_i grad log p_i`, with
r_i = p_i / b_i and s_i the geometric mean of r over the sequence:

| correction | w_i |
|---|---|
| `truncated` | min(r_i, cap) |
| `masked` | r_i if low <= r_i <= high, else 0 |
| `decoupled` | r_i: `truncated` without a cap, `masked` without limits |
| `none` | r_i, or 0 where PPO's clip is active for the sign of A_i |
| `sequence` | s_i, or 0 where the clip is active for the sign of A_i |

On-policy (r_i = 1) all five give the same gradient. In the first three, the clips `rl.clip_low` and
`rl.clip_high` apply to p / q, which is 1, so they have an effect in the last two only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bard_ray.learn.ratios import clip_acts, clipped_surrogate, ratio
from bard_ray.plugins import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """The trained tokens of one micro-batch; all fields are vectors of length N.

    Attributes:
        logprobs_N: log p of the policy, float32; the only field with gradients.
        proximal_N: log q of the policy at the start of the step.
        behavior_N: log b of the policy that sampled the token.
        reference_N: log-probs under the frozen policy of the KL term.
        entropy_N: entropy of the policy, nats.
        advantages_N: one for each token; segments of a sequence may have different advantages.
        sequence_N: index of the token's sequence, int64; no sequence is split over micro-batches.
        bin_N: index of its budget bin, int64; see `bard_ray.rl.bins`.
    """

    logprobs_N: Tensor
    proximal_N: Tensor
    behavior_N: Tensor
    reference_N: Tensor
    entropy_N: Tensor
    advantages_N: Tensor
    sequence_N: Tensor
    bin_N: Tensor


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The loss of each token, and what the correction did to it; all [N].

    Attributes:
        loss_N: loss, with gradient.
        weight_N: the factor w in the gradient -w A grad log p of the loss.
        clipped_N: True where the clip removed the gradient.
        cut_N: True where the importance weight was truncated or masked.
        metrics: one value per token for every name in the correction's `METRICS`; the step metric
            `correction/<name>` is the mean over the trained tokens.
    """

    loss_N: Tensor
    weight_N: Tensor
    clipped_N: Tensor
    cut_N: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Correction(Protocol):
    """A plug-in of `rl.correction`. It uses methods of tensors only and does not import torch.

    A correction with its own metrics declares `METRICS: ClassVar[Mapping[str, Metric]]`.
    """

    def __call__(self, tokens: TokenBatch, clip_low: float, clip_high: float) -> Surrogate:
        """Loss of each token; the loss of the micro-batch is their sum."""
        ...


CORRECTIONS: Registry[Correction] = Registry("rl.correction", "bard_ray.learn.corrections")


def clipped(ratio_N: Tensor, advantages_N: Tensor, clip_low: float, clip_high: float) -> Surrogate:
    """PPO's clipped surrogate on these ratios, without truncation or masking."""
    loss_N = clipped_surrogate(ratio_N, advantages_N, clip_low, clip_high)
    values_N = ratio_N.detach()
    clipped_N = clip_acts(values_N, advantages_N, clip_low, clip_high)
    return Surrogate(
        loss_N, values_N.masked_fill(clipped_N, 0.0), clipped_N, clipped_N.new_zeros(len(loss_N))
    )


def weighted(
    tokens: TokenBatch, weight_N: Tensor, cut_N: Tensor, clip_low: float, clip_high: float
) -> Surrogate:
    """The decoupled objective: PPO's clipped surrogate on p / q, times a weight for q / b.

    Math:
        l_i = -w_i min(rho_i A_i, clip(rho_i, 1 - clip_low, 1 + clip_high) A_i), rho_i = p_i / q_i

    Args:
        tokens: log-probs and advantages.
        weight_N: w, without gradient, [N].
        cut_N: True where w is not q / b, [N].
        clip_low: distance of the lower clip from 1.
        clip_high: distance of the upper clip from 1.

    Returns:
        The loss of each token, and what was clipped or cut.

    Source: Hilton, Cobbe and Schulman 2022 (batch size-invariance), the decoupled objective, with
        the weight as a parameter.
    """
    inner = clipped(
        ratio(tokens.logprobs_N, tokens.proximal_N), tokens.advantages_N, clip_low, clip_high
    )
    return Surrogate(weight_N * inner.loss_N, weight_N * inner.weight_N, inner.clipped_N, cut_N)
