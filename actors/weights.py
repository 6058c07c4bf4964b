"""Weights on their way from the learner to the engines.

One flat byte buffer, checked before anything is loaded.

The transport is registered behind vLLM's weight-transfer interface under `FLAT_BACKEND`. In-process
engines take the buffer by reference (zero copy from the object store); engines with worker
processes take the path of a shared-memory file. Importing this module is cheap; vLLM and torch are
imported inside functions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.engine import FlatWeights
from bard_ray.errors import DataError, WeightSyncError

if TYPE_CHECKING:
    import torch

FLAT_BACKEND = "bard_flat"
ALIGN = 64  # bytes; every parameter starts on a cache line


def flatten(tensors: Sequence[tuple[str, torch.Tensor]], dtype: str) -> FlatWeights:
    """Lay parameters out in one new buffer, cast to `dtype` (a torch name.

    The engine warns per parameter otherwise).
    """
    import torch

    target = getattr(torch, dtype)
    itemsize = target.itemsize
    offsets, end = [], 0
    for _, tensor in tensors:
        offsets.append(end)
        end += -(-tensor.numel() * itemsize // ALIGN) * ALIGN
    buffer = np.empty(end, dtype=np.uint8)
    flat = torch.from_numpy(buffer)
    for (_, tensor), offset in zip(tensors, offsets, strict=True):
        size = tensor.numel() * itemsize
        flat[offset : offset + size].view(target).copy_(tensor.detach().reshape(-1))
    shapes = tuple(tuple(t.shape) for _, t in tensors)
    names = tuple(name for name, _ in tensors)
    return FlatWeights(names, (dtype,) * len(names), shapes, tuple(offsets), buffer)


def views(
    names: Sequence[str],
    dtypes: Sequence[str],
    shapes: Sequence[Sequence[int]],
    offsets: Sequence[int],
    buffer: np.ndarray,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters as tensors that share the buffer's memory."""
    import warnings

    import torch

    with (
        warnings.catch_warnings()
    ):  # the object store hands out read-only memory; nobody writes to these views
        warnings.filterwarnings("ignore", message=".*not writable.*")
        flat = torch.from_numpy(buffer)
    for name, dtype, shape, offset in zip(names, dtypes, shapes, offsets, strict=True):
        part = flat[offset : offset + _num_bytes(shape, dtype)]
        yield name, part.view(getattr(torch, dtype)).view(*shape)


def checkpoint_files(path: str) -> list[Path]:
    """Safetensors files of a Hugging Face model directory, in name order.

    Raises:
        DataError: there are none.
    """
    files = sorted(Path(path).glob("*.safetensors"))
    if not files:
        raise DataError(
            path,
            "holds no safetensors files",
            "Name a Hugging Face model directory with model weights in it.",
        )
    return files


def checkpoint_shapes(path: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model directory's parameters, from its files' headers alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in checkpoint_files(path):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        shapes |= {
            name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        }
    return shapes


def checkpoint_tensors(path: str) -> dict[str, torch.Tensor]:
    """All parameters of a Hugging Face model directory, by name, in the types they are stored in.

    Raises:
        DataError: there are none.
    """
    from safetensors.torch import load_file

    files = checkpoint_files(path)
    return {name: value for file in files for name, value in sorted(load_file(file).items())}


def read_checkpoint(path: str, dtype: str) -> FlatWeights:
    """All parameters of a Hugging Face model directory as one buffer."""
    return flatten(list(checkpoint_tensors(path).items()), dtype)


def check_weights(weights: FlatWeights, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights that do not fit the model, before the engine is touched.

    vLLM would keep the old values of a name that is missing, ignore one it does not know, and be
    left unusable by an error half-way through.

    Raises:
        WeightSyncError: names or shapes differ from the model's, or the buffer is too short for
            them.
    """
    sent = dict(zip(weights.names, weights.shapes, strict=True))
    missing, unknown = expected.keys() - sent.keys(), sent.keys() - expected.keys()
    if missing or unknown:
        parts = f"missing {sorted(missing)[:5]}, unknown {sorted(unknown)[:5]}"
        msg = f"weights sent do not match the model: {parts}"
        raise WeightSyncError(msg)
    wrong = [name for name, shape in sent.items() if tuple(shape) != expected[name]]
    if wrong:
        msg = f"{wrong[0]} was sent with shape {sent[wrong[0]]}, the model has {expected[wrong[0]]}"
        raise WeightSyncError(msg)
    needed = max(
        o + _num_bytes(s, d)
        for o, s, d in zip(weights.offsets, weights.shapes, weights.dtypes, strict=True)
    )
    if needed > weights.buffer.nbytes:
        msg = f"the weight buffer is cut short: {weights.buffer.nbytes} bytes of {needed}"
        raise WeightSyncError(msg)


def _num_bytes(shape: Sequence[int], dtype: str) -> int:
    import torch

    return math.prod(shape) * int(getattr(torch, dtype).itemsize)


def register_flat_backend() -> None:
    """Make `FLAT_BACKEND` known to vLLM in this process; calling it again changes nothing."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if FLAT_BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(
            FLAT_BACKEND, "actors.flat_backend", "FlatWeightTransferEngine"
        )


def spill(weights: FlatWeights, directory: str = "/dev/shm") -> tuple[dict[str, Any], Path]:  # noqa: S108 shared memory
    """Put the buffer into a shared-memory file for engines with worker processes.

    The caller unlinks it.
    """
    import tempfile

    with tempfile.NamedTemporaryFile(dir=directory, prefix="bard_weights_", delete=False) as file:
        file.write(weights.buffer.data)
    info = weights.update_info() | {"buffer": None, "path": file.name}
    return info, Path(file.name)
