"""Token log-probs of packed micro-batches, with logits computed in chunks.

The logits of all tokens over a large vocabulary never exist at once. Only trained positions go
through the output head: prompts, padding and forced text need no logits.

Axes: R rows, T tokens of a row, N trained tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bard_ray.learn.pack import MicroBatch

# Largest number of logits in a chunk: 256 MiB of float32.
# With a small vocabulary one chunk is enough, which is fastest.
MAX_LOGITS = 1 << 26


def target_logprobs(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Log-probs of target tokens, and the entropies of their distributions.

    Math:
        z_i = (W h_i + b) / temperature
        log p_i = z_i[target_i] - logsumexp(z_i)
        H_i = -sum_v p_i[v] log p_i[v]

    Args:
        hidden_NH: last hidden states [N, H].
        weight_VH: output embedding [V, H].
        bias_V: bias of the output embedding [V], or None.
        targets_N: token ids, int64 [N].
        temperature: of the sampling distribution, > 0.

    Returns:
        Log-probs and entropies in nats, float32 [N] each; the entropies carry no gradient.

    Source: softmax with temperature; float32 from the logits on, as in vLLM.
    """
    logits_NV = functional.linear(hidden_NH, weight_VH, bias_V).float()
    if temperature != 1.0:
        logits_NV = logits_NV / temperature
    logprobs_NV = logits_NV.log_softmax(-1)
    with torch.no_grad():
        entropy_N = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return logprobs_NV.gather(-1, targets_N[:, None])[:, 0], entropy_N


class ChunkedLogprobs(torch.autograd.Function):
    """`target_logprobs`, one chunk of tokens at a time, forward and backward.

    The forward pass saves its inputs and one logsumexp per token. The backward pass recomputes the
    logits of a chunk, turns them into their gradient in place, and uses that before the next chunk:

        dL/dz_i = (onehot(target_i) - softmax(z_i)) g_i / temperature
        dL/dH   = dL/dz W,    dL/dW = sum over chunks of (dL/dz)^T H,    dL/db = sum_i dL/dz_i

    Under autocast the matrix products run in its type, and the weight is cast once per pass.

    Source: ours; the gradient is that of softmax cross-entropy.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies; the arguments are the fields of `_Head`."""
        head = _Head(*args).cast()
        count = len(head.hidden_NH)
        logprobs_N, entropy_N, lse_N = head.hidden_NH.new_empty((3, count), dtype=torch.float32)
        for part in head.chunks():
            logits_CV, targets_C1 = head.logits(part), head.targets_N[part, None]
            lse_C1 = logits_CV.logsumexp(-1, keepdim=True)
            logprobs_N[part] = (logits_CV.gather(-1, targets_C1) - lse_C1)[:, 0]
            lse_N[part] = lse_C1[:, 0]
            # H = logsumexp(z) - sum_v p_v z_v
            probs_CV = (logits_CV - lse_C1).exp_()
            entropy_N[part] = lse_N[part] - probs_CV.mul_(logits_CV).sum(-1)
        ctx.save_for_backward(*args[:4], lse_N)
        ctx.rest, ctx.product_dtype = args[4:], head.hidden_NH.dtype
        ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        """Gradients with respect to hidden states, weight and bias."""
        grad_N = grads[0]
        *saved, lse_N = ctx.saved_tensors
        inputs = _Head(*saved, *ctx.rest)
        head = inputs.cast(ctx.product_dtype)
        grad_hidden_NH = torch.empty_like(head.hidden_NH)
        grad_weight_VH = torch.zeros_like(inputs.weight_VH, dtype=torch.float32)
        grad_bias_V = None if inputs.bias_V is None else torch.zeros_like(inputs.bias_V).float()
        for part in head.chunks():
            grad_CV = head.logits(part).sub_(lse_N[part, None]).exp_().mul_(-grad_N[part, None])
            grad_CV.scatter_add_(-1, head.targets_N[part, None], grad_N[part, None])
            grad_CV.div_(head.temperature)
            if grad_bias_V is not None:
                grad_bias_V += grad_CV.sum(0)
            grad_CV = grad_CV.to(ctx.product_dtype)
            torch.mm(grad_CV, head.weight_VH, out=grad_hidden_NH[part])
            grad_weight_VH += grad_CV.T @ head.hidden_NH[part]
        found = grad_hidden_NH, grad_weight_VH, grad_bias_V
        like = inputs.hidden_NH, inputs.weight_VH, inputs.bias_V
        cast = (g if g is None else g.to(x.dtype) for g, x in zip(found, like, strict=True))
        return *cast, None, None, None


class _Head(NamedTuple):
    """Arguments of `ChunkedLogprobs`; see `target_logprobs`."""

    hidden_NH: Tensor
    weight_VH: Tensor
    bias_V: Tensor | None
    targets_N: Tensor
    temperature: float
    chunk_tokens: int

    def cast(self, dtype: torch.dtype | None = None) -> _Head:
        """The same with matrix operands in `dtype`; by default autocast's type, if it is on."""
        device = self.hidden_NH.device.type
        if dtype is None:
            autocast = torch.is_autocast_enabled(device)
            dtype = torch.get_autocast_dtype(device) if autocast else self.hidden_NH.dtype
        return self._replace(
            hidden_NH=self.hidden_NH.to(dtype),
            weight_VH=self.weight_VH.to(dtype),
            bias_V=None if self.bias_V is None else self.bias_V.to(dtype),
        )

    def chunks(self) -> Iterator[slice]:
        """Slices of the tokens, one for each chunk."""
        for start in range(0, len(self.hidden_NH), self.chunk_tokens):
            yield slice(start, start + self.chunk_tokens)

    def logits(self, part: slice) -> Tensor:
        """Logits of a chunk divided by the temperature, float32 [C, V], as a new tensor."""
        logits_CV = functional.linear(self.hidden_NH[part], self.weight_VH, self.bias_V).float()
        return logits_CV if self.temperature == 1.0 else logits_CV.div_(self.temperature)


class LogprobHead(nn.Module):
    """Output head that returns log-probs; replaces a model's `lm_head` and shares its weight.

    One call processes all chunks: under ZeRO-3 each call gathers the weight, so the number of calls
    must be the same on every rank, whatever its number of tokens.
    """

    def __init__(self, linear: nn.Linear, max_logits: int = MAX_LOGITS) -> None:
        """Share the parameters of `linear`; a chunk has at most `max_logits` logits."""
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.chunk_tokens = max(1, max_logits // linear.out_features)

    def forward(
        self, hidden_NH: Tensor, targets_N: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """`target_logprobs`, in several chunks where one does not hold all tokens."""
        args = hidden_NH, self.weight, self.bias, targets_N, temperature
        if len(hidden_NH) <= self.chunk_tokens:
            return target_logprobs(*args)
        found: tuple[Tensor, Tensor] = ChunkedLogprobs.apply(*args, self.chunk_tokens)
        return found


def loss_positions(batch: MicroBatch, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The positions whose hidden states predict the trained tokens, and those tokens.

    Returns:
        Flat indices of the predicting positions (one before each trained token) and target token
        ids, int64 [N] each.
    """
    trained_N = torch.from_numpy(batch.mask_RT.reshape(-1).nonzero()[0]).to(device)
    targets_N = torch.from_numpy(batch.tokens_RT[batch.mask_RT]).to(device, torch.int64)
    return trained_N - 1, targets_N
