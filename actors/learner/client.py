"""The `Learner` role over a group of rank actors.

Every call goes to all ranks and fails with the first failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from actors.cluster.losses import is_loss
from actors.cluster.supervise import call
from actors.cluster.wire import pack_sequences
from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import BardError
from bard_ray.learn.pack import PackSpec, plan_step
from bard_ray.learn.spec import LossSpec, OptimSpec
from bard_ray.records import StepStats, TrainSequence
from bard_ray.roles import Published

if TYPE_CHECKING:
    from ray.actor import ActorHandle

# When a rank dies, the others fail in the middle of a collective, often before Ray has noticed the
# death. Seconds that a failed call waits for the error of the lost rank itself.
BLAME_S = 20.0

Lost = Callable[[int, BaseException], BaseException]  # (rank, Ray's error) -> error to raise


class RayLearner:
    """Splits steps over ranks, balanced by tokens, with one global denominator."""

    def __init__(
        self,
        ranks: Sequence[ActorHandle],
        config: LearnerConfig,
        rollout_dtype: str,
        lost: Lost = lambda rank, error: error,
    ) -> None:
        """Wrap ranks that have been spawned.

        Args:
            ranks: one actor per rank, rank 0 first.
            config: configuration of the learner.
            rollout_dtype: torch name of the dtype in which weights are published.
            lost: creates the error to raise for a lost rank.
        """
        self._ranks, self._config, self._dtype, self._lost = ranks, config, rollout_dtype, lost
        self._spec = PackSpec.of(config.pack_len, config.micro_tokens, config.attention)

    async def start(self) -> None:
        """Start the process group."""
        rendezvous = self._ranks[0].rendezvous.remote()
        ((host, port),) = await self._gather([rendezvous], "the learner's rendezvous")
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
        values, *_ = await self._gather(work, "a learner step")
        return StepStats(values)

    async def publish(self) -> Published:
        """Gather the weights into the object store.

        This process owns them, so they outlive the learner.
        """
        dtype = self._dtype
        meta, weights = self._ranks[0].publish.options(num_returns=2).remote(dtype)
        others = [rank.gather.remote(dtype) for rank in self._ranks[1:]]
        (names, num_bytes), *_ = await self._gather([meta, *others], "gathering weights")
        return Published(handle=weights, names=names, num_bytes=num_bytes)

    async def export(self, path: str) -> None:
        """Write the current weights as a Hugging Face model directory."""
        await self._all("export", path)

    async def save(self, path: str) -> None:
        """Write resumable state into the directory `path`."""
        await self._all("save", path)

    async def restore(self, path: str, optim: OptimSpec) -> None:
        """Resume from `save`d state."""
        await self._all("restore", path, optim)

    async def _all(self, method: str, *args: Any) -> None:
        work = [getattr(rank, method).remote(*args) for rank in self._ranks]
        await self._gather(work, f"the learner's {method}")

    async def _gather(self, work: Sequence[Awaitable[Any]], what: str) -> list[Any]:
        """Results of the ranks, rank 0 first.

        Raises:
            BaseException: the first failure; the error of a lost rank takes precedence.
        """
        limit_s = self._config.call_timeout_s
        calls = [asyncio.ensure_future(call(one, limit_s, what)) for one in work]
        try:
            await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
            failed = _failures(calls)
            if failed and not any(isinstance(error, BardError) for error in failed.values()):
                failed = await _with_losses(calls)
        finally:
            for one in calls:
                one.cancel()
        if not failed:
            return [one.result() for one in calls]
        rank, error = next(iter(failed.items()))
        if is_loss(error):
            raise self._lost(rank, error) from error
        raise error


def _failures(calls: Sequence[asyncio.Future[Any]]) -> dict[int, BaseException]:
    """Errors of the failed calls by rank; lost ranks first."""
    ended = {rank: one.exception() for rank, one in enumerate(calls) if one.done()}
    failed = {rank: error for rank, error in ended.items() if error is not None}
    return dict(sorted(failed.items(), key=lambda item: not is_loss(item[1])))


async def _with_losses(calls: Sequence[asyncio.Future[Any]]) -> dict[int, BaseException]:
    """Failures, once one is a lost rank, all calls have ended, or the wait has timed out."""
    deadline = asyncio.get_running_loop().time() + BLAME_S
    while not any(is_loss(error) for error in _failures(calls).values()):
        pending = [one for one in calls if not one.done()]
        left_s = deadline - asyncio.get_running_loop().time()
        if not pending or left_s <= 0:
            break
        await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    return _failures(calls)
