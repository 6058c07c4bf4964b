"""Token log-probs of packed micro-batches.

Logits for all tokens of a large vocabulary never exist at once.

Only trained positions go through the head: prompts, padding and forced text cost no logits.

Axes: R rows, T tokens of a row, N trained tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from bard_ray.learn.pack import MicroBatch

# Logits of one chunk at most, in elements: 256 MiB of float32.
# A small vocabulary needs one chunk, which is fastest.
MAX_LOGITS = 1 << 26


def target_logprobs(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Log-probs of target tokens, and the entropy of the distributions they come from.

    Maths:
        z_i = (W h_i + b) / temperature
        log p_i = z_i[target_i] - logsumexp(z_i)
        H_i = -sum_v p_i[v] log p_i[v]

    Args:
        hidden_NH: last hidden states [N, H].
        weight_VH: output embedding [V, H].
        bias_V: its bias [V], if it has one.
        targets_N: token ids, int64 [N].
        temperature: of the sampling distribution, > 0.

    Returns:
        Log-probs and entropies in nats, float32 [N] each; the entropies carry no gradient.

    Source: softmax with temperature; float32 from the logits on, as vLLM does it.
    """
    logits_NV = functional.linear(hidden_NH, weight_VH, bias_V).float()
    if temperature != 1.0:
        logits_NV = logits_NV / temperature
    logprobs_NV = logits_NV.log_softmax(-1)
    with torch.no_grad():
        entropy_N = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return logprobs_NV.gather(-1, targets_N[:, None])[:, 0], entropy_N


class LogprobHead(nn.Module):
    """Output embedding that answers with log-probs.

    It takes the place of a model's `lm_head` and shares its weight.

    One call does all chunks. That matters under ZeRO-3, where each call gathers the weight: the
    number of calls must be the same on every rank, however many tokens it has.
    """

    def __init__(self, linear: nn.Linear, max_logits: int = MAX_LOGITS) -> None:
        """Take over the parameters of `linear`; chunks hold at most `max_logits` logits."""
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.chunk_tokens = max(1, max_logits // linear.out_features)

    def forward(
        self, hidden_NH: Tensor, targets_N: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """See `target_logprobs`.

        In several chunks, each chunk's logits are computed again in the backward pass.
        """
        if len(hidden_NH) <= self.chunk_tokens:
            return target_logprobs(hidden_NH, self.weight, self.bias, targets_N, temperature)
        parts = []
        for hidden_CH, targets_C in zip(
            hidden_NH.split(self.chunk_tokens), targets_N.split(self.chunk_tokens), strict=True
        ):
            args = hidden_CH, self.weight, self.bias, targets_C, temperature
            again = torch.is_grad_enabled()
            parts.append(
                checkpoint(target_logprobs, *args, use_reentrant=False)
                if again
                else target_logprobs(*args)
            )
        logprobs, entropies = zip(*parts, strict=True)
        return torch.cat(logprobs), torch.cat(entropies)


def loss_positions(batch: MicroBatch, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Where the trained tokens are predicted, and what they are.

    Returns:
        Flat indices of the predicting positions (one before each trained token) and target token
        ids, int64 [N] each.
    """
    trained_N = torch.from_numpy(batch.mask_RT.reshape(-1).nonzero()[0]).to(device)
    targets_N = torch.from_numpy(batch.tokens_RT[batch.mask_RT]).to(device, torch.int64)
    return trained_N - 1, targets_N
