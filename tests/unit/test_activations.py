"""The memory plan's bytes a token, counted again with saved-tensor hooks on small models."""

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from bard_ray.config.schema import LearnerConfig
from bard_ray.learn.pack import PackSpec, pack
from bard_ray.learn.policy import Policy
from bard_ray.preflight.activations import activation_bytes, layer_bytes
from bard_ray.preflight.memory import ModelShape
from bard_ray.records import TrainSequence

TOKENS, ROWS = 128, 8


def shape(layers: int) -> ModelShape:
    return ModelShape("test", layers, 64, 192, 4, 2, 16, 64, tied=True)


def saved_bytes(learner: LearnerConfig, sizes: ModelShape) -> int:
    """Memory that autograd keeps after a forward pass over full rows, parameters not counted."""
    config = Qwen3Config(
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.mlp,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        attn_implementation=learner.attention,
    )
    model = Qwen3ForCausalLM(config)
    policy = Policy(
        model.bfloat16() if learner.precision == "bfloat16" else model, learner.precision
    )
    policy.train(learner.recompute)
    if learner.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    half = np.arange(TOKENS // 2)
    rows = [TrainSequence(half.astype(np.int32), half > 8) for _ in range(2 * ROWS)]
    (batch,) = pack(rows, PackSpec(TOKENS, ROWS))
    kept = {p.untyped_storage().data_ptr(): 0 for p in policy.parameters()}
    storages = []  # held, so that no address is used twice

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage.data_ptr(), storage.nbytes())
        storages.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = policy(batch, 1.0)
    assert outputs[0].requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("precision", ["float32", "bf16_autocast", "bfloat16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_planned_bytes_of_a_layer_are_those_that_autograd_keeps(attention, precision):
    learner = LearnerConfig(
        precision=precision, attention=attention, pack_len=TOKENS, micro_tokens=TOKENS * ROWS
    )
    one, three = (saved_bytes(learner, shape(layers)) for layers in (1, 3))
    layer = (three - one) / 2
    if (
        precision == "bf16_autocast"
    ):  # the plan counts the bfloat16 weights of a layer by themselves
        layer -= 2 * (shape(2).counted() - shape(1).counted())
    assert layer_bytes(learner, precision, shape(1)) == pytest.approx(layer, rel=0.06)
    assert activation_bytes(learner, shape(3)) == 3 * layer_bytes(learner, precision, shape(3))


@pytest.mark.parametrize(("precision", "value"), [("float32", 4), ("bf16_autocast", 4)])
def test_recompute_keeps_what_goes_between_layers(precision, value):
    learner = LearnerConfig(
        precision=precision, pack_len=TOKENS, micro_tokens=TOKENS * ROWS, recompute=True
    )
    one, three = (saved_bytes(learner, shape(layers)) for layers in (1, 3))
    between = value * TOKENS * ROWS * 64
    assert (three - one) / 2 == pytest.approx(between, rel=0.02)
    layer = layer_bytes(learner, precision, shape(3))
    assert activation_bytes(learner, shape(3)) == 3 * between + layer
