"""The flat weight layout: all parameters in one byte buffer, from the learner to the engines.

Names, shapes and size are checked before the engine is touched. The transport is registered behind
vLLM's weight-transfer interface under `FLAT_BACKEND`. In-process engines take the buffer by
reference (zero copy from the object store); engines with worker processes take the path of a
shared-memory file. Importing this module is cheap; vLLM and torch are imported inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bard_ray.errors import DataError, WeightSyncError
from bard_ray.model_files import Shape, stored_shapes, weight_files

if TYPE_CHECKING:
    import torch

FLAT_BACKEND = "bard_flat"
ALIGN = 64  # bytes; every parameter starts on a cache line


@dataclass(frozen=True, slots=True)
class FlatWeights:
    """Parameters laid out in one byte buffer.

    Attributes:
        names, dtypes, shapes, offsets: one entry per parameter; dtypes as torch names ("bfloat16"),
            offsets in bytes.
        buffer: the bytes; a read-only view is fine.
    """

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shapes: tuple[Shape, ...]
    offsets: tuple[int, ...]
    buffer: np.ndarray = field(repr=False)

    def update_info(self) -> dict[str, object]:
        """The keyword arguments of vLLM's weight transfer update."""
        return {
            "names": list(self.names),
            "dtypes": list(self.dtypes),
            "shapes": [list(s) for s in self.shapes],
            "offsets": list(self.offsets),
            "buffer": self.buffer,
        }


def lay_out(
    shapes: Iterable[tuple[str, Shape]], dtype: str, *, allocate: bool = True
) -> FlatWeights:
    """Lay parameters out in one buffer of zeros.

    Args:
        shapes: names and shapes, in the buffer's order.
        dtype: torch name of the type that every parameter is stored in.
        allocate: False makes a layout without bytes, for ranks that only need the offsets.
    """
    named = list(shapes)
    sizes = [-(-_num_bytes(shape, dtype) // ALIGN) * ALIGN for _, shape in named]
    return FlatWeights(
        names=tuple(name for name, _ in named),
        dtypes=(dtype,) * len(named),
        shapes=tuple(shape for _, shape in named),
        offsets=tuple(int(n) for n in np.cumsum([0, *sizes[:-1]])[: len(named)]),
        buffer=np.zeros(sum(sizes) if allocate else 0, np.uint8),
    )


def fill(weights: FlatWeights, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Copy parameters into the buffer, cast to its type."""
    import torch

    buffer = torch.from_numpy(weights.buffer)
    place = dict(zip(weights.names, zip(weights.offsets, weights.dtypes, strict=True), strict=True))
    for name, tensor in tensors:
        offset, dtype = place[name]
        part = buffer[offset : offset + _num_bytes(tuple(tensor.shape), dtype)]
        part.view(getattr(torch, dtype)).copy_(tensor.detach().reshape(-1))


def flatten(tensors: Sequence[tuple[str, torch.Tensor]], dtype: str) -> FlatWeights:
    """Parameters in one new buffer, all cast to `dtype`.

    vLLM warns for each parameter of another type than the model's.
    """
    weights = lay_out(((name, tuple(tensor.shape)) for name, tensor in tensors), dtype)
    fill(weights, tensors)
    return weights


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

    with warnings.catch_warnings():
        # The object store's memory is read-only, and these views are never written to.
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
    files = weight_files(path)
    if not files:
        raise DataError(
            path,
            "holds no safetensors files",
            "Name a Hugging Face model directory with model weights in it.",
        )
    return files


def checkpoint_shapes(path: str) -> dict[str, Shape]:
    """Names and shapes of a model directory's parameters.

    Raises:
        DataError: it holds no weights.
    """
    checkpoint_files(path)
    return stored_shapes(path)


def checkpoint_tensors(path: str) -> dict[str, torch.Tensor]:
    """All parameters of a Hugging Face model directory, by name, in their stored types.

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
    """Refuse weights that do not match the model, before the engine is touched.

    vLLM would keep the old values of a missing name and ignore an unknown one, and an error in the
    middle of a load would leave it unusable.

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
    """Register `FLAT_BACKEND` with vLLM in this process; idempotent."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if FLAT_BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(
            FLAT_BACKEND, "actors.weights.vllm_backend", "FlatWeightTransferEngine"
        )


def spill(weights: FlatWeights, directory: str = "/dev/shm") -> tuple[dict[str, Any], Path]:  # noqa: S108 shared memory
    """Write the buffer to a shared-memory file, for engines with worker processes.

    Returns:
        The keyword arguments of vLLM's update, and the file, which the caller unlinks.
    """
    import tempfile

    with tempfile.NamedTemporaryFile(dir=directory, prefix="bard_weights_", delete=False) as file:
        file.write(weights.buffer.data)
    info = weights.update_info() | {"buffer": None, "path": file.name}
    return info, Path(file.name)
