"""vLLM's side of the flat weight transport: loads parameters from one byte buffer.

vLLM imports this module through its registry, in the process that holds the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from actors.weights.cpu_double_buffer import (
    StagedWeights,
    UnsupportedModelError,
    WeightPlan,
    plan_weight_swap,
)
from actors.weights.flat_buffer import checkpoint_tensors, register_flat_backend, views
from bard_ray.errors import WeightSyncError

logger = logging.getLogger(__name__)


@dataclass
class FlatInitInfo(WeightTransferInitInfo):
    """Arguments of `init_transfer_engine`.

    Attributes:
        path: model directory that the engine was started from.
        load: `rollout.weight_load`: "auto", "background" or "in_place".
    """

    path: str = ""
    load: str = "auto"


@dataclass
class FlatUpdateInfo(WeightTransferUpdateInfo):
    """The fields of `actors.weights.flat_buffer.FlatWeights`; the bytes by reference or by path.

    `on_prepared` (in-process only) is called from the background thread when the weights are
    prepared, or when that has failed.
    """

    names: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    buffer: np.ndarray | None = None
    path: str = ""
    on_prepared: Callable[[], None] | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """The parameters by name, sharing the buffer's memory; a file is mapped read-only."""
        buffer = self.buffer
        if buffer is None:
            buffer = np.memmap(self.path, dtype=np.uint8, mode="r")
        return dict(views(self.names, self.dtypes, self.shapes, self.offsets, buffer))


class FlatWeightTransferEngine(WeightTransferEngine[FlatInitInfo, FlatUpdateInfo]):
    """Loads one buffer that holds every parameter.

    There are two modes, chosen in `init_transfer_engine`:

    - background: `update_weights` returns at once and another thread builds the new weights beside
      the old ones, which stay in use; `finish_weight_update` waits for that thread and swaps. Steps
      may run between the two calls. CPU only; see `actors.weights.cpu_double_buffer`.
    - in place: vLLM's own layerwise reload, plus a fix for what it leaves stale on a CPU. No step
      may run between start and finish. The only mode on a GPU, where it has never been run.
    """

    init_info_cls = FlatInitInfo
    update_info_cls = FlatUpdateInfo
    supports_draft_weight_update = False
    defers_processing = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plan: WeightPlan | None = None
        self._preparing: Future[StagedWeights] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="weights")

    def init_transfer_engine(self, init_info: FlatInitInfo) -> None:
        """Choose the mode.

        Background mode is verified on the weights that the engine started with: the outputs of
        every layer it builds have to equal those of vLLM's own bit for bit.

        Raises:
            WeightSyncError: background mode is configured and the model does not support it.
        """
        if init_info.load == "in_place":
            return
        dtype = self.model_config.dtype
        tensors = {name: t.to(dtype) for name, t in checkpoint_tensors(init_info.path).items()}
        try:
            self._plan = plan_weight_swap(self.model, tensors)
        except UnsupportedModelError as error:
            if init_info.load == "background":
                msg = f"rollout.weight_load=background is not possible: {error}"
                raise WeightSyncError(msg) from error
            logger.warning("weights will be loaded in place: %s", error)

    @property
    def in_background(self) -> bool:
        """Whether steps may run between `start_weight_update` and `finish_weight_update`."""
        return self._plan is not None

    @property
    def prepared(self) -> bool:
        """Whether `finish_weight_update` would return or raise without waiting."""
        return self._preparing is None or self._preparing.done()

    @property
    def failed(self) -> bool:
        """Whether preparing has ended with an error, so that `finish_weight_update` would raise."""
        preparing = self._preparing
        return preparing is not None and preparing.done() and preparing.exception() is not None

    def start_weight_update(self) -> None:
        """In place: restore the checkpoint layout of the layers, which packing freed."""
        if self._plan is None:
            initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: FlatUpdateInfo) -> None:
        """Load every parameter of the buffer; in background mode, start preparing them."""
        plan = self._plan
        if plan is None:
            self.model.load_weights(update_info.tensors().items())
            return
        self._preparing = self._pool.submit(lambda: plan.prepare(update_info.tensors()))
        if (on_prepared := update_info.on_prepared) is not None:
            self._preparing.add_done_callback(lambda _: on_prepared())

    def drain_pending(self) -> None:
        """Wait until the new weights are prepared; raises the error of preparing them, if any."""
        if self._preparing is not None:
            self._preparing.result()

    def finish_weight_update(self) -> None:
        """Put the new weights in place.

        Raises:
            Exception: the error of preparing them in the background; the old weights stay in use.
        """
        if self._plan is None:
            finalize_layerwise_reload(self.model, self.model_config)
            repack_heads(self.model)
            return
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            self._pool.submit(self._plan.reclaim, preparing.result().swap())

    def abandon(self) -> None:
        """Discard the weights that are being prepared; the ones in use stay."""
        self._preparing = None

    def shutdown(self) -> None:
        """Stop the background thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def repack_heads(model: Any) -> None:
    """Refresh the packed copy of a tied output head, which layerwise reload on CPU leaves stale."""
    for module in model.modules():
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)


class FlatWorkerExtension:
    """Methods that vLLM adds to its workers (`worker_extension_cls`), for `collective_rpc`.

    Importing this module in a worker process registers the backend.
    """

    weight_transfer_engine: FlatWeightTransferEngine
    _weight_update_active: bool

    def weights_in_background(self) -> bool:
        """See `FlatWeightTransferEngine.in_background`."""
        return self.weight_transfer_engine.in_background

    def weights_prepared(self) -> bool:
        """See `FlatWeightTransferEngine.prepared`."""
        return self.weight_transfer_engine.prepared

    def weights_failed(self) -> bool:
        """See `FlatWeightTransferEngine.failed`."""
        return self.weight_transfer_engine.failed

    def abandon_weight_update(self) -> None:
        """Close an update session without loading: vLLM leaves it open when finishing raises."""
        self.weight_transfer_engine.abandon()
        self._weight_update_active = False


register_flat_backend()
