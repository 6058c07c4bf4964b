"""The learner's use of DeepSpeed.

Covers configuration, process group, model loading, optimizer reset and parameter gathering.

Importing this module is cheap; torch, transformers and deepspeed are imported inside functions.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import DataError
from bard_ray.learn.precision import precision_problems
from bard_ray.learn.spec import OptimSpec

if TYPE_CHECKING:
    import torch

    from bard_ray.learn.policy import Policy

NamedWeights = Sequence[tuple[str, "torch.nn.Parameter"]]

# Elements gathered at a time under ZeRO-3, beyond a rank's own part: 256 MiB of bfloat16 or 512 MiB
# of float32; a larger parameter is a bucket of its own. One call per parameter costs ten times as
# much on small models (measured), and all at once would need room for the whole model on each rank.
BUCKET_ELEMENTS = 1 << 27
ADAM_EPS = 1e-8


def engine_config(config: LearnerConfig) -> dict[str, Any]:
    """The DeepSpeed configuration.

    The caller owns the accumulation boundary: `backward` accumulates, `step` reduces the rest and
    updates. Clipping is not included because it differs between stages; see
    `set_hyperparameters`.

    Raises:
        ConfigError: bfloat16 weights without ZeRO, which would accumulate gradients in bfloat16.
    """
    for problem in precision_problems(config):
        raise problem
    zero = {"stage": config.zero_stage, "overlap_comm": config.zero_stage == 2 and config.gpus > 0}
    precision = {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "steps_per_print": 1 << 30,
        "wall_clock_breakdown": False,
        "zero_optimization": zero,
    } | (precision if config.precision == "bfloat16" else {})


def open_store(host: str, world_size: int) -> Any:
    """Open rank 0's side of the rendezvous.

    This is a key-value store that listens on `host` only, on a port chosen by the system.
    """
    from torch.distributed import TCPStore

    listener = socket.socket()
    listener.bind((host, 0))
    listener.listen()
    port = listener.getsockname()[1]
    # The store takes over the descriptor; by default it would listen on every interface.
    return TCPStore(
        host,
        port,
        world_size,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )


def join_group(config: LearnerConfig, rank: int, world_size: int, store: Any) -> None:
    """Join the process group of the learner's ranks and hand it to DeepSpeed.

    Each rank is a process of its own with one device, so its local rank is 0. LOCAL_SIZE stays
    unset: with it DeepSpeed allocates shared-memory buffers that outlive the process.
    """
    os.environ.pop("LOCAL_SIZE", None)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK="0")
    os.environ.update(MASTER_ADDR=store.host, MASTER_PORT=str(store.port))
    if not config.gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed
    import torch
    from torch import distributed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Avoids one warning per collective: DeepSpeed calls torch functions by deprecated names.
    warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)
    # The shared-memory kernel serves inference only; building it would need a compiler and half a
    # minute.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if config.gpus:
        torch.cuda.set_device(0)
    limit = timedelta(seconds=config.call_timeout_s)
    backend = "nccl" if config.gpus else "gloo"
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=world_size, timeout=limit
    )
    deepspeed.init_distributed(
        dist_backend=backend, auto_mpi_discovery=False, verbose=False, timeout=limit
    )


def leave_group() -> None:
    """Leave the process group; does nothing without one.

    The process may join another group afterward.
    """
    from torch import distributed

    if distributed.is_initialized():
        import deepspeed

        # torch's own function would leave DeepSpeed with handles of dead groups.
        deepspeed.comm.destroy_process_group()


def build_engine(policy: Policy, config: LearnerConfig, optim: OptimSpec) -> Any:
    """A DeepSpeed engine around a policy, with a fresh AdamW."""
    import deepspeed
    import torch

    # Recomputation is active in training mode only; everything else runs without dropout, as the
    # sampler does.
    policy.train(config.recompute)
    if config.recompute:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.0, eps=ADAM_EPS, fused=True)
    engine, *_ = deepspeed.initialize(
        model=policy, optimizer=optimizer, config=engine_config(config)
    )
    if config.zero_stage == 0:
        engine.enable_backward_allreduce = False  # `reduce_and_clip` does it, to clip in between
    set_hyperparameters(engine, optim)
    return engine


def set_hyperparameters(engine: Any, optim: OptimSpec) -> None:
    """Set a stage's optimizer constants on a running engine."""
    for group in engine.optimizer.param_groups:
        group["betas"] = optim.betas
        group["weight_decay"] = optim.weight_decay
    if hasattr(engine.optimizer, "clip_grad"):
        engine.optimizer.clip_grad = optim.grad_clip


def reset_optimizer(engine: Any) -> None:
    """Reset moments and step counts, and copy the float32 masters from the weights again.

    The optimizer is then in its initial state.
    """
    inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
    for state in inner.state.values():
        for value in state.values():
            value.zero_()
    if hasattr(engine.optimizer, "refresh_fp32_params"):
        engine.optimizer.refresh_fp32_params()


def reduce_and_clip(engine: Any, grad_clip: float) -> float:
    """Average gradients over ranks and clip them, without ZeRO.

    Returns the norm before clipping.
    """
    import torch

    engine.buffered_allreduce_fallback()
    limit = grad_clip if grad_clip > 0 else float("inf")
    return float(torch.nn.utils.clip_grad_norm_(engine.module.parameters(), limit))


def gathered(weights: NamedWeights, *, write: bool = False) -> Iterator[NamedWeights]:
    """Full parameters, one bucket at a time; a bucket is valid until the next one is requested.

    Every rank must iterate to the end.

    Args:
        weights: named parameters, partitioned by ZeRO-3 or not.
        write: rank 0 modifies the parameters; the other ranks receive its values.
    """
    for bucket in _buckets(weights):
        with _whole([p for _, p in bucket], write=write):
            yield bucket


def empty_policy(path: str, config: LearnerConfig, trust_remote_code: bool = False) -> Policy:
    """Build a policy from a directory's configuration, without its weights.

    `read_weights` or a checkpoint loads them. Under ZeRO-3 the policy is partitioned while it is
    built, so that no rank ever holds all of it.

    Raises:
        ConfigError: the model needs custom code, which is not trusted.
    """
    import deepspeed
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from bard_ray.learn.policy import Policy, weight_dtype
    from bard_ray.model_files import custom_code_refused

    # The weight dtype comes from the configuration: on a CPU without float16, the argument `dtype`
    # is ignored and everything becomes bfloat16 (DeepSpeed 0.19.8).
    partition = deepspeed.zero.Init(
        config_dict_or_path=engine_config(config), enabled=config.zero_stage == 3
    )
    trust: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    settings = {
        "dtype": weight_dtype(config.precision),
        "attn_implementation": config.attention,
    } | trust
    with custom_code_refused(path):
        described = AutoConfig.from_pretrained(path, **trust)
        with partition, no_init_weights():
            model = AutoModelForCausalLM.from_config(described, **settings)
    model.tie_weights()  # part of the initialization that was skipped
    _restore_buffers(model)
    return Policy(model, config.precision)


def read_weights(policy: Policy, path: str) -> None:
    """Load a policy's weights from the safetensors files of a model directory.

    Rank 0 reads; the other ranks receive their parts.

    Raises:
        DataError: the files lack parameters of the model.
    """
    from safetensors import safe_open
    from torch import distributed

    files = {}
    for file in sorted(Path(path).glob("*.safetensors")):
        reader = safe_open(file, framework="pt")
        files.update(dict.fromkeys(reader.keys(), reader))
    missing = [name for name, _ in policy.named_weights() if name not in files]
    if missing:
        raise DataError(
            path, f"its weights lack {', '.join(missing[:3])}", "Name a complete model directory."
        )
    for bucket in gathered(policy.named_weights(), write=True):
        if distributed.get_rank() == 0:
            for name, parameter in bucket:
                parameter.data.copy_(files[name].get_tensor(name))


def remove_shared_memory(port: int, directory: str = "/dev/shm") -> list[str]:  # noqa: S108  (shared memory lives there)
    """Delete the buffers that DeepSpeed leaves behind for a rendezvous port.

    Returns the names deleted.

    Their names end in address, port and rank. There should be none (see `join_group`): this removes
    buffers left by an older process or by another setting.
    """
    stale = [
        file
        for file in Path(directory).glob(f"deepspeed_allreduce_buffer_*_{port}_*")
        if file.is_file()
    ]
    for file in stale:
        file.unlink(missing_ok=True)
    return sorted(file.name for file in stale)


def _buckets(weights: NamedWeights) -> Iterator[NamedWeights]:
    bucket: list[tuple[str, torch.nn.Parameter]] = []
    for name, parameter in weights:
        if (
            bucket
            and sum(num_elements(p) for _, p in bucket) + num_elements(parameter) > BUCKET_ELEMENTS
        ):
            yield bucket
            bucket = []
        bucket.append((name, parameter))
    if bucket:
        yield bucket


def num_elements(parameter: torch.nn.Parameter) -> int:
    """Number of elements of the full parameter, partitioned or not."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def full_shape(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    """Shape of the full parameter, partitioned or not."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def _whole(parameters: list[torch.nn.Parameter], *, write: bool) -> AbstractContextManager[Any]:
    if not any(hasattr(p, "ds_id") for p in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if write else None)


def _restore_buffers(model: Any) -> None:
    """Recompute buffers in float32.

    `zero.Init` rounds every tensor created under it to the weight dtype. For rotary frequencies in
    bfloat16 that is an error of 0.4 %, which at position 1,000 has grown to radians.
    """
    for module in model.modules():
        rounded = [
            (name, b) for name, b in module.named_buffers(recurse=False) if b.is_floating_point()
        ]
        for name, buffer in rounded:
            setattr(module, name, buffer.float())
        if rounded:
            model._init_weights(module)  # transformers' own hook for filling buffers
