"""The `Sampler` role over rollout workers: balances requests, replaces lost workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING

from actors.cluster.fleet import ATTEMPTS, Fleet, Kill, Spawn
from actors.cluster.supervise import call
from actors.rollout.stream import GroupQueue, GroupStream
from bard_ray.errors import InfrastructureError, WeightSyncError
from bard_ray.records import (
    Group,
    GroupRequest,
    SamplingSpec,
)
from bard_ray.roles import Published

if TYPE_CHECKING:
    from ray.actor import ActorHandle


CLOSE_LIMIT_S = 30.0  # for an engine to end its own processes before its actor is killed


class RaySampler:
    """The `Sampler` role over rollout workers."""

    def __init__(self, size: int, spawn: Spawn, kill: Kill, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._weights: Published | None = None
        self._path = ""
        self._version = 0
        self._stopped = False
        self._fleet = Fleet("rollout", size, spawn, kill, self._prepare)
        self._streams = [GroupStream(self._fleet, i, timeout_s) for i in range(size)]

    async def start(self) -> None:
        """Start all engines concurrently."""
        await self._fleet.start()

    async def stop(self) -> None:
        """Stop the workers; `sample` calls in flight raise an `InfrastructureError`."""
        self._stopped = True
        for stream in self._streams:
            stream.stop(_stopped())

        async def close(handle: ActorHandle) -> None:
            await call(handle.close.remote(), CLOSE_LIMIT_S, "stopping a rollout worker")

        await self._fleet.stop(before_kill=close)

    async def _prepare(self, handle: ActorHandle) -> None:
        """Start an engine and give it the current weights before its first request."""
        await call(handle.start.remote(), self._timeout_s, "starting a rollout worker")
        if self._weights is not None or self._path:
            await self._send(handle)

    async def _send(self, handle: ActorHandle) -> float:
        """Load the current weights into one worker and check the version it reports.

        Returns:
            The generation stall in seconds.

        Raises:
            WeightSyncError: the worker reports another version.
        """
        weights, path, version = self._weights, self._path, self._version
        if weights is not None:
            work = handle.update.remote(weights.handle, version)
        else:
            work = handle.load.remote(path, version)
        loaded, stall_s = await call(work, self._timeout_s, "loading weights into a rollout worker")
        if loaded != version:
            msg = f"a rollout worker reports version {loaded} after version {version} was sent"
            raise WeightSyncError(msg)
        return float(stall_s)

    async def publish(self, weights: Published, version: int) -> float:
        """Load weights into every worker while requests run.

        Returns:
            The longest generation stall in seconds.
        """
        self._weights, self._path, self._version = weights, "", version
        return await self._send_all()

    async def load(self, path: str, version: int) -> None:
        """Load a Hugging Face model directory into every worker."""
        self._weights, self._path, self._version = None, path, version
        await self._send_all()

    async def _send_all(self) -> float:
        """Load the current weights into every worker; returns the longest stall in seconds.

        A replacement that is started during the transfer may have got the previous version in
        `_prepare`, so this waits until the current worker of every slot has the new one.
        """

        async def one(index: int) -> float:
            stalls: list[float] = []

            async def work(handle: ActorHandle) -> None:
                stalls.append(await self._send(handle))

            if not await self._fleet.on_worker(index, work):
                msg = f"rollout worker {index} was lost {ATTEMPTS} times while loading weights"
                raise InfrastructureError(msg)
            return max(stalls)

        return max(await asyncio.gather(*(one(i) for i in range(len(self._fleet.slots)))))

    async def sample(
        self, requests: Sequence[GroupRequest], spec: SamplingSpec
    ) -> AsyncIterator[Group]:
        """Spread requests over the workers and yield groups as they complete.

        Requests of a lost worker are issued again. Errors that no retry can fix are raised here.
        """
        if self._stopped:
            raise _stopped()
        queue: GroupQueue = asyncio.Queue()
        submitted = [
            (stream := self._streams[index], stream.submit(share, spec, queue))
            for index, share in self._shares(requests)
        ]
        try:
            for _ in requests:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            for stream, tickets in submitted:
                stream.discard(tickets)

    def _shares(self, requests: Sequence[GroupRequest]) -> list[tuple[int, list[GroupRequest]]]:
        """Assign each request to the least loaded worker at that point."""
        loads = [slot.load for slot in self._fleet.slots]
        shares: dict[int, list[GroupRequest]] = {}
        for request in requests:
            index = loads.index(min(loads))
            loads[index] += 1
            shares.setdefault(index, []).append(request)
        return list(shares.items())

    async def abort(self, numbers: Collection[int]) -> None:
        """Stop generating groups, whichever worker has them."""
        aborted = list(numbers)

        async def work(handle: ActorHandle) -> None:
            await call(handle.abort.remote(aborted), self._timeout_s, "aborting groups")

        indices = range(len(self._fleet.slots))
        await asyncio.gather(*(self._fleet.on_worker(i, work) for i in indices))

    async def stats(self) -> list[dict[str, float]]:
        """Engine counters of every worker that answers."""
        counters: list[dict[str, float]] = []

        async def work(handle: ActorHandle) -> None:
            counters.append(await call(handle.stats.remote(), self._timeout_s, "engine counters"))

        for index in range(len(self._fleet.slots)):
            await self._fleet.on_worker(index, work)
        return counters

    @property
    def replaced(self) -> int:
        """Workers replaced so far."""
        return self._fleet.replaced


def _stopped() -> InfrastructureError:
    return InfrastructureError("these rollout workers were stopped")
