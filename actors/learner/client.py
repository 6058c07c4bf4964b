"""The `Learner` role over a group of rank actors.

Every call goes to all ranks, and the first failure ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.cluster.supervise import call
from actors.cluster.wire import pack_sequences
from bard_ray.config.schema import LearnerConfig
from bard_ray.learn.pack import PackSpec, plan_step
from bard_ray.learn.spec import LossSpec, OptimSpec
from bard_ray.records import StepStats, TrainSequence
from bard_ray.roles import Published

if TYPE_CHECKING:
    from ray.actor import ActorHandle


class RayLearner:
    """Splits steps over ranks, balanced by tokens, with one global denominator."""

    def __init__(
        self, ranks: Sequence[ActorHandle], config: LearnerConfig, rollout_dtype: str
    ) -> None:
        self._ranks, self._config, self._dtype = ranks, config, rollout_dtype
        self._spec = PackSpec.of(config.pack_len, config.micro_tokens, config.attention)

    async def start(self) -> None:
        """Bring the process group up."""
        host, port = await self._one(self._ranks[0].rendezvous.remote(), "the learner's rendezvous")
        await self._all("connect", host, port)

    async def begin(self, init_path: str, optim: OptimSpec) -> None:
        """Start a stage from a Hugging Face model directory, with a fresh optimizer."""
        await self._all("begin", init_path, optim)

    async def step(
        self, sequences: Sequence[TrainSequence], loss: LossSpec, lr: float
    ) -> StepStats:
        """One optimizer step over all sequences."""
        plan = plan_step([s.tokens_T.size for s in sequences], len(self._ranks), self._spec)
        trained = sum(int(s.mask_T[1:].sum()) for s in sequences)
        work = [
            rank.step_columns.remote(
                pack_sequences([sequences[i] for i in share]),
                *(loss, lr, trained, plan.num_micro_batches),
            )
            for rank, share in zip(self._ranks, plan.shares, strict=True)
        ]
        values = await asyncio.gather(*(self._one(w, "a learner step") for w in work))
        return StepStats(values[0])

    async def publish(self) -> Published:
        """Gather the weights into the object store.

        They are owned by this process, so they outlive the learner.
        """
        dtype = self._dtype
        meta, weights = self._ranks[0].publish.options(num_returns=2).remote(dtype)
        others = [rank.gather.remote(dtype) for rank in self._ranks[1:]]
        gathering = (self._one(work, "gathering weights") for work in (meta, *others))
        (names, num_bytes), *_ = await asyncio.gather(*gathering)
        return Published(handle=weights, names=names, num_bytes=num_bytes)

    async def export(self, path: str) -> None:
        """Write the current weights as a Hugging Face model directory."""
        await self._all("export", path)

    async def save(self, path: str) -> None:
        """Write resumable state into the directory `path`."""
        await self._all("save", path)

    async def restore(self, path: str, optim: OptimSpec) -> None:
        """Go on from `save`d state."""
        await self._all("restore", path, optim)

    async def _all(self, method: str, *args: Any) -> None:
        work = [getattr(rank, method).remote(*args) for rank in self._ranks]
        await asyncio.gather(*(self._one(w, f"the learner's {method}") for w in work))

    async def _one(self, awaitable: Any, what: str) -> Any:
        return await call(awaitable, self._config.call_timeout_s, what)
