"""A fleet: N actors of one stateless role; lost ones are replaced while the run continues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actors.cluster.supervise import Decision, decide

if TYPE_CHECKING:
    from ray.actor import ActorHandle

ATTEMPTS = 3  # times a call is issued before it counts as failed

Spawn = Callable[[int], "ActorHandle"]
Kill = Callable[["ActorHandle"], None]


@dataclass
class Slot:
    """One worker of the fleet.

    Attributes:
        handle: current actor.
        load: work items in flight.
        lock: ensures that concurrent callers replace a failed actor only once.
    """

    handle: ActorHandle
    load: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Fleet:
    """N actors of one stateless role.

    `prepare` runs on every new actor before it receives work (load weights, warm up); its argument
    is the handle.
    """

    def __init__(
        self,
        name: str,
        size: int,
        spawn: Spawn,
        kill: Kill,
        prepare: Callable[[ActorHandle], Coroutine[Any, Any, None]],
    ) -> None:
        self.name, self._spawn, self._kill, self._prepare = name, spawn, kill, prepare
        self.slots = [Slot(spawn(index)) for index in range(size)]
        self.replaced = 0

    async def start(self) -> None:
        """Prepare all workers concurrently."""
        await asyncio.gather(*(self._prepare(slot.handle) for slot in self.slots))

    async def stop(
        self, before_kill: Callable[[ActorHandle], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Kill all workers without replacing them.

        `before_kill` runs on each of them first; its errors are ignored.
        """
        handles = [slot.handle for slot in self.slots]
        if before_kill is not None:
            await asyncio.gather(*map(before_kill, handles), return_exceptions=True)
        for handle in handles:
            self._kill(handle)

    def least_loaded(self) -> int:
        """Index of the worker with the smallest load.

        Ties go to the lowest index, so an idle fleet is filled in order.
        """
        return min(range(len(self.slots)), key=lambda i: self.slots[i].load)

    async def replace(self, index: int, failed: ActorHandle) -> None:
        """Replace a failed worker, unless another caller already did."""
        slot = self.slots[index]
        async with slot.lock:
            if slot.handle is not failed:
                return
            self._kill(failed)
            self.replaced += 1
            fresh = self._spawn(index)
            try:
                await self._prepare(fresh)
            except BaseException:
                # The failed actor holds the slot's resources, which the next attempt needs.
                self._kill(fresh)
                raise
            slot.handle = fresh

    async def on_worker(
        self, index: int, work: Callable[[ActorHandle], Coroutine[Any, Any, None]]
    ) -> bool:
        """Run `work` on one worker; replace the worker and retry if the failure policy says so.

        Returns:
            False if all `ATTEMPTS` attempts failed.
        """
        for _ in range(ATTEMPTS):
            handle = self.slots[index].handle
            try:
                await work(handle)
            except Exception as error:
                if decide(error) is not Decision.RESTART:
                    raise
                await self._try_replace(index, handle)
            else:
                return True
        return False

    async def _try_replace(self, index: int, failed: ActorHandle) -> None:
        """Replace a worker; if the replacement is lost too, the next attempt replaces it."""
        try:
            await self.replace(index, failed)
        except Exception as error:
            if decide(error) is not Decision.RESTART:
                raise
