"""Memory of one micro-batch in the learner and in the reference worker, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bard_ray.config.schema import LearnerConfig
from bard_ray.learn.logprobs import MAX_LOGITS

if TYPE_CHECKING:
    from bard_ray.preflight.memory import ModelShape

# Live copies of one chunk of logits: computed, in float32, after log-softmax, and their gradient.
LOGIT_COPIES = 4


class Saved(NamedTuple):
    """Bytes that autograd saves per token and layer, as coefficients of the model's sizes.

    Attributes:
        hidden: per element of the hidden size.
        query: per element of all query heads together.
        key_value: per element of all key heads together, keys and values.
        mlp: per element of the MLP's inner size.
        score: per query head and key of the row, with eager attention.
        mask: per key of the row, with sdpa.
    """

    hidden: int
    query: int
    key_value: int
    mlp: int
    score: int
    mask: int


# Counted with saved-tensor hooks on Qwen3 of several sizes, as `tests/unit/test_activations.py`
# verifies. Norms and residuals stay in float32 under autocast, and the softmax of eager attention
# is in float32 at every precision.
SAVED = {
    "float32": Saved(24, 24, 8, 16, 4, 4),
    "bf16_autocast": Saved(26, 14, 6, 8, 6, 2),
    "bfloat16": Saved(16, 14, 6, 8, 6, 2),
}


def activation_bytes(learner: LearnerConfig, shape: ModelShape) -> float:
    """Bytes saved for the backward pass of one micro-batch.

    Math (T micro-batch tokens):
        without recompute   layers * layer
        with recompute      c T h layers + layer, c the bytes of a value between layers

    Source: ours, following Korthikanti et al. (arXiv 2205.05198), section 4.1.
    """
    layer = layer_bytes(learner, learner.precision, shape)
    if not learner.recompute:
        return shape.layers * layer
    value = 2 if learner.precision == "bfloat16" else 4
    return value * learner.micro_tokens * shape.hidden * shape.layers + layer


def layer_bytes(learner: LearnerConfig, precision: str, shape: ModelShape) -> float:
    """Bytes that one layer saves for one micro-batch.

    Math (T micro-batch tokens, S tokens of a row; a to f the fields of `Saved`):
        T (a h + b q + c kv + d mlp), and
        T e heads S for eager attention, T f S for sdpa
    """
    saved = SAVED[precision]
    token = saved.hidden * shape.hidden + saved.mlp * shape.mlp
    token += saved.query * shape.heads * shape.head_dim
    token += saved.key_value * shape.kv_heads * shape.head_dim
    if learner.attention == "eager":
        token += saved.score * shape.heads * learner.pack_len
    elif learner.attention == "sdpa":
        token += saved.mask * learner.pack_len
    return float(learner.micro_tokens * token)


def logit_bytes(tokens: int, shape: ModelShape) -> float:
    """Logits of one micro-batch, or of one chunk if it has more than `MAX_LOGITS`."""
    return 4.0 * LOGIT_COPIES * min(tokens * shape.vocab, MAX_LOGITS)


def head_bytes(shape: ModelShape) -> float:
    """The gradient of the output embedding, in float32 and in the dtype of the matrix products.

    Math:
        V h (4 + 2 + 2)
    """
    return 8.0 * shape.vocab * shape.hidden
