"""vLLM's side of the flat weight transport.

A `WeightTransferEngine` that loads parameters from one byte buffer.

Imported by vLLM itself (through its registry) in the process that holds the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

from actors.weights import register_flat_backend, views


@dataclass
class FlatInitInfo(WeightTransferInitInfo):
    """Nothing to rendezvous on."""


@dataclass
class FlatUpdateInfo(WeightTransferUpdateInfo):
    """The layout of `actors.engine.FlatWeights`, with the bytes given by reference or by path."""

    names: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    buffer: np.ndarray | None = None
    path: str = ""

    def bytes(self) -> np.ndarray:
        """The buffer, mapped read-only where it came as a path."""
        return (
            np.memmap(self.path, dtype=np.uint8, mode="r") if self.buffer is None else self.buffer
        )


class FlatWeightTransferEngine(WeightTransferEngine[FlatInitInfo, FlatUpdateInfo]):
    """Loads through vLLM's layerwise reload.

    Repairs afterwards what that reload leaves stale on a CPU.
    """

    init_info_cls = FlatInitInfo
    update_info_cls = FlatUpdateInfo

    def init_transfer_engine(self, init_info: FlatInitInfo) -> None:
        """No data-plane rendezvous is needed."""

    def start_weight_update(self) -> None:
        """Prepare the layers to take checkpoint-format weights again.

        Packed layers freed those after loading.
        """
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: FlatUpdateInfo) -> None:
        """Load every parameter of the buffer."""
        info = update_info
        self.model.load_weights(
            views(info.names, info.dtypes, info.shapes, info.offsets, info.bytes())
        )

    def finish_weight_update(self) -> None:
        """Repack the layers, the tied output head included."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        repack_heads(self.model)

    def shutdown(self) -> None:
        """Nothing is held."""


def repack_heads(model: Any) -> None:
    """Refresh the packed copy of a tied output head.

    Layerwise reload on a CPU leaves it at its old values.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)


class FlatWorkerExtension:
    """Named as vLLM's `worker_extension_cls`.

    Importing this module in a worker process registers the backend.
    """


register_flat_backend()
