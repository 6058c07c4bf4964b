"""The flat weight layout, and weights that are refused before an engine is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from actors.weights.flat_buffer import (
    check_weights,
    checkpoint_shapes,
    flatten,
    read_checkpoint,
    views,
)
from bard_ray.config.schema import ChainConfig, TinyModelConfig
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.errors import DataError, WeightSyncError

TENSORS = [("a", torch.arange(6.0).reshape(2, 3)), ("b", torch.tensor([0.5]))]
EXPECTED = {"a": (2, 3), "b": (1,)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_flat_layout_round_trips(dtype):
    flat = flatten(TENSORS, dtype)
    assert all(offset % 64 == 0 for offset in flat.offsets)
    frozen = flat.buffer.copy()
    frozen.setflags(write=False)  # as the object store hands it out
    for (name, tensor), (sent, value) in zip(
        views(flat.names, flat.dtypes, flat.shapes, flat.offsets, frozen), TENSORS, strict=True
    ):
        assert name == sent
        assert torch.equal(tensor.float(), value)


def test_matching_weights_pass():
    check_weights(flatten(TENSORS, "float32"), EXPECTED)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda f: flatten(TENSORS[:1], "float32"), "missing"),
        (lambda f: replace(f, names=("a", "c")), "unknown"),
        (lambda f: replace(f, shapes=((3, 2), (1,))), "with shape"),
        (lambda f: replace(f, buffer=f.buffer[:64]), "cut short"),
    ],
)
def test_weights_that_do_not_match_are_refused(change, word):
    with pytest.raises(WeightSyncError, match=word):
        check_weights(change(flatten(TENSORS, "float32")), EXPECTED)


def test_all_parameters_of_a_model_directory_are_read(tmp_path):
    write_tiny_model(str(tmp_path), TinyModelConfig(), ChainConfig(), 0, 128)
    shapes = checkpoint_shapes(str(tmp_path))
    flat = read_checkpoint(str(tmp_path), "float32")
    check_weights(flat, shapes)
    assert sum(int(np.prod(s)) for s in shapes.values()) == 434_944
    assert "lm_head.weight" not in shapes, "the tied head is sent once, as the embedding"


def test_a_directory_without_weights_is_refused(tmp_path):
    with pytest.raises(DataError, match="no safetensors"):
        checkpoint_shapes(str(tmp_path))
