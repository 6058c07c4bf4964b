"""Off-policy correction: how a token counts that another policy sampled.

Three policies meet in a step. The behavior policy b sampled the token: older weights, and another
engine's arithmetic. The proximal policy q is the one the step starts from. The policy p is the one
with the gradient. A correction turns their log-probs into a loss, and says which tokens it held
back. Those that come with the project are in `bard_ray.learn.corrections`, one a file.

The loop takes one optimizer step a batch, and gradients of micro-batches are summed without moving
the weights, so p = q in value throughout a step: the proximal log-probs are the policy's own,
detached, and no second forward pass is needed. (Several optimizer steps a batch would need one.)
What is left of each correction is the weight of the policy gradient `w_i A_i grad log p_i`, with
r_i = p_i / b_i and s_i its geometric mean over the sequence:

| correction | w_i |
|---|---|
| `truncated` | min(r_i, cap) |
| `masked` | r_i if low <= r_i <= high, else 0 |
| `decoupled` | r_i; `truncated` without a cap, `masked` without limits |
| `none` | r_i, and 0 where the clip of PPO holds back the sign of A_i |
| `sequence` | s_i, and 0 where the clip holds back the sign of A_i |

On-policy (r_i = 1) all five are the same gradient. The clips `rl.clip_low` and `rl.clip_high` act
on p / q in the first three, which is 1, so they act in the last two only.
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
    """Trained tokens of one micro-batch, all of them vectors of length N.

    Attributes:
        logprobs_N: log p under the policy, float32; the only field with gradients.
        proximal_N: log q under the policy that the step started from.
        behavior_N: log b under the policy that sampled the token.
        reference_N: under the frozen policy of the KL term.
        entropy_N: of the policy, nats.
        advantages_N: of the token; segments of a sequence may have advantages of their own.
        sequence_N: number of the token's sequence, int64; no sequence is split over micro-batches.
        bin_N: number of its budget bin, int64; see `bard_ray.rl.bins`.
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
    """Loss of each token, and what the correction did to it, all [N].

    Attributes:
        loss_N: carries the gradient.
        weight_N: factor w of the gradient -w A grad log p of that loss.
        clipped_N: the clip took the gradient away.
        cut_N: the importance weight was truncated or masked.
        metrics: a value of each token for every name in the correction's `METRICS`; the step
            metric `correction/<name>` is its mean over the trained tokens.
    """

    loss_N: Tensor
    weight_N: Tensor
    clipped_N: Tensor
    cut_N: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Correction(Protocol):
    """A plug-in of `rl.correction`. It may use methods of tensors only, not import torch.

    One with metrics of its own declares them: `METRICS: ClassVar[Mapping[str, Metric]]`.
    """

    def __call__(self, tokens: TokenBatch, clip_low: float, clip_high: float) -> Surrogate:
        """Loss of each token; a sum of them is the loss of the micro-batch."""
        ...


CORRECTIONS: Registry[Correction] = Registry("rl.correction", "bard_ray.learn.corrections")


def clipped(ratio_N: Tensor, advantages_N: Tensor, clip_low: float, clip_high: float) -> Surrogate:
    """The clipped surrogate of PPO on these ratios, with nothing cut."""
    loss_N = clipped_surrogate(ratio_N, advantages_N, clip_low, clip_high)
    values_N = ratio_N.detach()
    clipped_N = clip_acts(values_N, advantages_N, clip_low, clip_high)
    return Surrogate(
        loss_N, values_N.masked_fill(clipped_N, 0.0), clipped_N, clipped_N.new_zeros(len(loss_N))
    )


def weighted(
    tokens: TokenBatch, weight_N: Tensor, cut_N: Tensor, clip_low: float, clip_high: float
) -> Surrogate:
    """The decoupled objective: PPO's on p / q, times a constant weight for q / b.

    Math:
        l_i = -w_i min(rho_i A_i, clip(rho_i, 1 - clip_low, 1 + clip_high) A_i), rho_i = p_i / q_i

    Args:
        tokens: log-probs and advantages.
        weight_N: w, without gradient [N].
        cut_N: where w is not q / b, bool [N].
        clip_low: distance of the lower clip from 1.
        clip_high: distance of the upper clip from 1.

    Returns:
        The loss of each token, and what became of it.

    Source: Hilton, Cobbe and Schulman 2022 (batch size-invariance), the decoupled objective, with
        the weight left open.
    """
    inner = clipped(
        ratio(tokens.logprobs_N, tokens.proximal_N), tokens.advantages_N, clip_low, clip_high
    )
    return Surrogate(weight_N * inner.loss_N, weight_N * inner.weight_N, inner.clipped_N, cut_N)
