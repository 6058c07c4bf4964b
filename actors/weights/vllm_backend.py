"""vLLM's side of the flat weight transport.

A `WeightTransferEngine` that loads parameters from one byte buffer.

Imported by vLLM itself (through its registry) in the process that holds the model.
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
    Staged,
    UnsupportedModelError,
    WeightPlan,
    plan_weight_swap,
)
from actors.weights.flat_buffer import checkpoint_tensors, register_flat_backend, views
from bard_ray.errors import WeightSyncError

logger = logging.getLogger(__name__)


@dataclass
class FlatInitInfo(WeightTransferInitInfo):
    """Where the engine's weights came from.

    Attributes:
        path: model directory that the engine was started from.
        load: "auto", "background" or "in_place", as `rollout.weight_load`.
    """

    path: str = ""
    load: str = "auto"


@dataclass
class FlatUpdateInfo(WeightTransferUpdateInfo):
    """The layout of `actors.weights.flat_buffer.FlatWeights`; the bytes by reference or by path.

    `on_prepared` (in-process only) is called from the background thread when the weights are built,
    or when that has failed.
    """

    names: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    buffer: np.ndarray | None = None
    path: str = ""
    on_prepared: Callable[[], None] | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """The parameters by name, sharing the buffer's memory.

        A buffer that came as a path is mapped read-only.
        """
        buffer = self.buffer
        if buffer is None:
            buffer = np.memmap(self.path, dtype=np.uint8, mode="r")
        return dict(views(self.names, self.dtypes, self.shapes, self.offsets, buffer))


class FlatWeightTransferEngine(WeightTransferEngine[FlatInitInfo, FlatUpdateInfo]):
    """Loads one buffer that holds every parameter.

    Two ways, chosen in `init_transfer_engine`:

    - background: `update_weights` returns at once and another thread builds the new weights beside
      the old ones, which go on serving; `finish_weight_update` waits for it and swaps. Steps may be
      run between the two calls. CPU only; see `actors.weights.cpu_double_buffer`.
    - in place: vLLM's own layerwise reload, with a repair of what it leaves stale on a CPU. No step
      may be run between start and finish. The only way on a GPU, where it was not run.
    """

    init_info_cls = FlatInitInfo
    update_info_cls = FlatUpdateInfo
    supports_draft_weight_update = False
    defers_processing = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plan: WeightPlan | None = None
        self._coming: Future[Staged] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="weights")

    def init_transfer_engine(self, init_info: FlatInitInfo) -> None:
        """Choose how to load.

        Background loading is tried on the weights that the engine started with: every layer it
        builds has to answer bit for bit as vLLM's own.

        Raises:
            WeightSyncError: background loading is asked for and the model does not allow it.
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
        """Whether steps may be run between `start_weight_update` and `finish_weight_update`."""
        return self._plan is not None

    @property
    def prepared(self) -> bool:
        """Whether `finish_weight_update` would return or raise without waiting."""
        return self._coming is None or self._coming.done()

    @property
    def failed(self) -> bool:
        """Whether `finish_weight_update` would raise, as far as is known by now."""
        coming = self._coming
        return coming is not None and coming.done() and coming.exception() is not None

    def start_weight_update(self) -> None:
        """In place: have the layers take checkpoint-format weights again.

        Packed layers freed those after loading.
        """
        if self._plan is None:
            initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: FlatUpdateInfo) -> None:
        """Load every parameter of the buffer, or begin to."""
        plan = self._plan
        if plan is None:
            self.model.load_weights(update_info.tensors().items())
            return
        self._coming = self._pool.submit(lambda: plan.prepare(update_info.tensors()))
        if (on_prepared := update_info.on_prepared) is not None:
            self._coming.add_done_callback(lambda _: on_prepared())

    def drain_pending(self) -> None:
        """Wait until the weights on their way are built; raises what went wrong."""
        if self._coming is not None:
            self._coming.result()

    def finish_weight_update(self) -> None:
        """Put the new weights in place.

        Raises:
            Exception: whatever building them in the background raised; the old weights stay in use.
        """
        if self._plan is None:
            finalize_layerwise_reload(self.model, self.model_config)
            repack_heads(self.model)
            return
        coming, self._coming = self._coming, None
        if coming is not None:
            self._pool.submit(self._plan.reclaim, coming.result().swap())

    def abandon(self) -> None:
        """Forget weights that are on their way; the ones in use stay."""
        self._coming = None

    def shutdown(self) -> None:
        """Stop the background thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def repack_heads(model: Any) -> None:
    """Refresh the packed copy of a tied output head.

    Layerwise reload on a CPU leaves it at its old values.
    """
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
        """End an update session without loading anything.

        vLLM leaves the session open when `finish_weight_update` raises.
        """
        self.weight_transfer_engine.abandon()
        self._weight_update_active = False


register_flat_backend()
