"""One rank of the learner group: a DeepSpeed engine behind a few blocking calls.

Every method is called on all ranks at about the same time, because most of them run collectives.
A rank keeps its model between stages: `begin` with the directory that `export` wrote resets the
optimizer in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.learner import deepspeed_engine, model_dir
from actors.weights.flat_buffer import FlatWeights, fill, lay_out
from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import InvariantError, RunStateError
from bard_ray.learn.correction import TokenBatch
from bard_ray.learn.pack import MicroBatch, PackSpec, pack
from bard_ray.learn.spec import LossSpec, OptimSpec
from bard_ray.learn.stats import Sums, accumulate, learner_metrics
from bard_ray.records import TrainSequence

if TYPE_CHECKING:
    import torch

STATE_TAG = "state"  # name of the DeepSpeed checkpoint inside a saved directory
MODEL_DIR = "model"  # beside it: configuration and tokenizer, without weights


class LearnerRank:
    """Holds one rank's part of policy and optimizer."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        config: LearnerConfig,
        seed: int,
        trust_remote_code: bool = False,
    ) -> None:
        """Store the settings; heavy imports wait for `connect`.

        `trust_remote_code`: run Python code that a model directory contains.
        """
        self._rank, self._world_size = rank, world_size
        self._config, self._seed, self._trust = config, seed, trust_remote_code
        self._spec = PackSpec.of(config.pack_len, config.micro_tokens, config.attention)
        self._store: Any = None
        self._port = 0
        self._engine: Any = None
        self._optim = OptimSpec()
        self._files = model_dir.SideFiles()
        self._resident: model_dir.Stamp | None = None
        self._flat: FlatWeights | None = None

    # ------------------------------------------------------------------ group

    def rendezvous_address(self, host: str = "127.0.0.1") -> tuple[str, int]:
        """Open the rendezvous of rank 0 on `host`.

        `host` is an address of this machine that the other ranks can reach.
        """
        self._store = deepspeed_engine.open_store(host, self._world_size)
        return host, int(self._store.port)

    def connect(self, host: str, port: int) -> None:
        """Join the process group; returns when all ranks have joined."""
        from torch.distributed import TCPStore

        if self._store is None:
            self._store = TCPStore(host, port, self._world_size, is_master=False)
        self._port = port
        deepspeed_engine.join_group(self._config, self._rank, self._world_size, self._store)

    def close(self) -> None:
        """Release engine and process group; a second call does nothing."""
        self._drop_engine()
        deepspeed_engine.leave_group()
        self._store = None
        if self._port:
            deepspeed_engine.remove_shared_memory(self._port)

    # ------------------------------------------------------------------ stages

    def begin(self, init_path: str, optim: OptimSpec) -> bool:
        """Start a stage from a model directory with a fresh optimizer.

        Returns whether weights had to be read.

        Raises:
            ConfigError: the model needs custom code, which is not trusted.
            DataError: the directory is incomplete, or log-probs are not supported for its
                architecture.
        """
        stamp = model_dir.stamp(init_path)
        reuse = self._engine is not None and stamp == self._resident
        if not reuse:
            self._build(init_path, optim, weights=True)
        deepspeed_engine.reset_optimizer(self._engine)
        deepspeed_engine.set_hyperparameters(self._engine, optim)
        self._optim, self._resident = optim, stamp
        return not reuse

    def step(
        self,
        sequences: Sequence[TrainSequence],
        loss: LossSpec,
        lr: float,
        global_tokens: int,
        num_micro_batches: int,
    ) -> dict[str, float]:
        """One optimizer step.

        Args:
            sequences: this rank's share; may be empty.
            loss: which loss, and its constants.
            lr: learning rate of this step.
            global_tokens: trained tokens summed over ranks, the denominator of the loss.
            num_micro_batches: number of micro-batches, the same on every rank; see
                `bard_ray.learn.pack.plan_step`.

        Returns:
            Metrics of `bard_ray.metrics.TABLE`, reduced over ranks.

        Raises:
            InvariantError: sequences lack an input of the loss, or `global_tokens` is 0 or differs
                from the number of trained tokens.
        """
        check_sequences(sequences, loss)
        self._use_threads(loss)
        if global_tokens < 1:
            raise InvariantError("a learner step needs at least one trained token")
        sums: Sums = {}
        batches = pack(sequences, self._spec, num_micro_batches)
        for batch in batches:
            accumulate(sums, self._backward(batch, loss, global_tokens))
        grad_norm = self._update(lr)
        totals = self._reduce(sums, sum(batch.num_tokens for batch in batches))
        (trained,) = totals["trained"]
        if round(trained) != global_tokens:
            raise InvariantError(f"{trained:.0f} tokens trained on, {global_tokens} announced")
        return learner_metrics(totals, loss, grad_norm, lr)

    # ------------------------------------------------------------------ weights out

    def gather(self, dtype: str) -> FlatWeights | None:
        """All weights in one buffer, cast to `dtype` (a torch name); None except on rank 0.

        The next call reuses the buffer: pass on a copy (the object store makes one).
        """
        flat = self._layout(dtype)
        for bucket in deepspeed_engine.gathered(self._weights()):
            if self._rank == 0:
                fill(flat, bucket)
        return flat if self._rank == 0 else None

    def export(self, path: str) -> None:
        """Write the weights as a Hugging Face model directory, atomically."""
        tensors: dict[str, torch.Tensor] = {}
        for bucket in deepspeed_engine.gathered(self._weights()):
            if self._rank == 0:
                tensors |= {name: p.detach().to("cpu", copy=True) for name, p in bucket}
        if self._rank == 0:
            model_dir.write(path, self._engine.module.model, tensors, self._files)
        self._barrier()
        self._resident = model_dir.stamp(path)

    def save(self, path: str) -> None:
        """Write resumable state into a directory; each rank writes its part."""
        if self._rank == 0:
            model_dir.write(str(Path(path) / MODEL_DIR), self._engine.module.model, {}, self._files)
            model_dir.write_layout(path, self._config)
        self._engine.save_checkpoint(path, tag=STATE_TAG)
        self._barrier()

    def restore(self, path: str, optim: OptimSpec) -> None:
        """Resume from saved state, with the same number of ranks, ZeRO stage and precision.

        Raises:
            RunStateError: the state is missing, or was saved by a group of another layout.
        """
        model_dir.check_layout(path, self._config)
        if self._engine is None:
            self._build(str(Path(path) / MODEL_DIR), optim, weights=False)
        self._files = model_dir.SideFiles.read(str(Path(path) / MODEL_DIR), code=self._trust)
        found, _ = self._engine.load_checkpoint(path, tag=STATE_TAG)
        if found is None:
            raise RunStateError(
                path, "holds no learner state that can be read", "Resume from another checkpoint."
            )
        deepspeed_engine.set_hyperparameters(self._engine, optim)
        self._optim, self._resident = optim, None

    # ------------------------------------------------------------------ inside

    def _build(self, path: str, optim: OptimSpec, *, weights: bool) -> None:
        import torch

        from bard_ray.learn.policy import load_policy

        self._drop_engine()
        torch.manual_seed(self._seed + self._rank)
        config = self._config
        if weights and config.zero_stage < 3:
            policy = load_policy(path, config.attention, config.precision, self._trust)
        else:
            policy = deepspeed_engine.empty_policy(path, config, self._trust)
            if weights:
                deepspeed_engine.read_weights(policy, path)
        self._engine = deepspeed_engine.build_engine(policy, config, optim)
        self._files = model_dir.SideFiles.read(path, code=self._trust)

    def _use_threads(self, loss: LossSpec) -> None:
        """Set torch's threads to the plan's number for the stage, or to one without a plan."""
        import torch

        supervised = loss.kind == "nll" and self._config.sft_threads
        torch.set_num_threads(max(1, supervised or self._config.threads))

    def _drop_engine(self) -> None:
        if self._engine is not None:
            self._engine.destroy()
        self._engine = self._flat = self._resident = None

    def _weights(self) -> deepspeed_engine.NamedWeights:
        return self._engine.module.named_weights()

    def _backward(self, batch: MicroBatch, loss: LossSpec, global_tokens: int) -> Sums:
        """Accumulate the gradients of one micro-batch; returns its sums."""
        from bard_ray.learn.losses import loss_of

        logprobs_N, entropy_N = self._engine(batch, loss.temperature)
        total, sums = loss_of(_token_batch(batch, logprobs_N, entropy_N), loss)
        # DeepSpeed averages gradients over ranks, but ours are parts of one sum.
        self._engine.backward(total * (self._world_size / global_tokens))
        return sums | {"trained": logprobs_N.new_tensor(float(logprobs_N.numel()))}

    def _update(self, lr: float) -> float:
        """Optimizer step; returns the gradient norm before clipping."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._resident = None
        if self._config.zero_stage == 0:
            norm = deepspeed_engine.reduce_and_clip(self._engine, self._optim.grad_clip)
            self._engine.step()
            return norm
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def _reduce(self, sums: Sums, num_tokens: int) -> dict[str, list[float]]:
        """Reduce sums (maxima for `*_max`) over ranks; one list per name."""
        import torch
        from torch import distributed

        sums = sums | {"tokens": torch.tensor([float(num_tokens)], device=sums["loss"].device)}
        peaks = {name: v for name, v in sums.items() if name.endswith("_max")}
        parts = ((sums.keys() - peaks.keys(), "SUM"), (peaks.keys(), "MAX"))
        totals: dict[str, list[float]] = {}
        for names, how in ((sorted(part), how) for part, how in parts if part):
            flat = torch.cat([sums[name].double().reshape(-1) for name in names])
            if self._world_size > 1:
                distributed.all_reduce(flat, getattr(distributed.ReduceOp, how))
            sizes = [sums[name].numel() for name in names]
            values = (part.tolist() for part in flat.split(sizes))
            totals |= dict(zip(names, values, strict=True))
        return totals

    def _layout(self, dtype: str) -> FlatWeights:
        """Names, shapes and offsets of the flat buffer.

        Rank 0 also allocates the buffer, once.
        """
        if self._flat is None or self._flat.dtypes[0] != dtype:
            shapes = [(name, deepspeed_engine.full_shape(p)) for name, p in self._weights()]
            self._flat = lay_out(shapes, dtype, allocate=self._rank == 0)
        return self._flat

    def _barrier(self) -> None:
        if self._world_size > 1:
            from torch import distributed

            distributed.barrier()


def check_sequences(sequences: Sequence[TrainSequence], loss: LossSpec) -> None:
    """Check that sequences have every array the loss needs; missing ones would train on zeros.

    Raises:
        InvariantError: a sequence lacks advantages, behavior or reference log-probs that the loss
            needs.
    """
    if loss.kind == "nll":
        return
    needed = ["advantages_T", "behavior_T"] + (["reference_T"] if loss.kl_coef else [])
    for name in needed:
        if any(getattr(sequence, name) is None for sequence in sequences):
            raise InvariantError(f"the {loss.kind} loss needs {name} of every sequence")


def _token_batch(
    batch: MicroBatch, logprobs_N: torch.Tensor, entropy_N: torch.Tensor
) -> TokenBatch:
    import torch

    def trained(values_RT: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values_RT[batch.mask_RT]).to(logprobs_N.device)

    return TokenBatch(
        logprobs_N=logprobs_N,
        proximal_N=logprobs_N.detach(),  # one optimizer step per batch: the policy before it
        behavior_N=trained(batch.behavior_RT),
        reference_N=trained(batch.reference_RT),
        entropy_N=entropy_N,
        advantages_N=trained(batch.advantages_RT),
        sequence_N=trained(batch.sequence_RT).long(),
        bin_N=trained(batch.bin_RT).long(),
    )
