"""The tiny student's vocabulary and the rules of its shape, without importing an engine."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

from bard_ray.config.schema import TinyModelConfig
from bard_ray.errors import ConfigError

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
VOCAB_MULTIPLE = 64


def vocabulary(ops: Sequence[str]) -> list[str]:
    """Tokens in id order, padded to a multiple of 64.

    Every id that the model can sample decodes to text.

    The opening budget tag and the tens digit are one token: read as a bag of digits, budgets never
    seen in training come out wrong (13 as 15.5; measured).
    """
    special = [PAD, EOS, UNK, "?", "<think>", "</think>", "\\boxed{", "}", "</budget>"]
    budget_tens = [f"<budget>{tens}" for tens in range(10)]
    tokens = [*special, *budget_tens, *string.digits, *string.ascii_lowercase, *dict.fromkeys(ops)]
    return tokens + [f"<unused{number}>" for number in range(-len(tokens) % VOCAB_MULTIPLE)]


def shape_problems(tiny: TinyModelConfig) -> Iterator[ConfigError]:
    """Problems between the sizes of the model; rotary embeddings need an even head size."""
    if tiny.hidden % (2 * tiny.heads):
        rule = f"must be an even multiple of student.tiny.heads ({tiny.heads})"
        fix = f"For example {tiny.heads * 32}."
        yield ConfigError("student.tiny.hidden", tiny.hidden, rule, fix)
