"""N actors of one stateless role; lost ones are replaced while the run continues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actors.cluster.supervise import Decision, decide

if TYPE_CHECKING:
    from ray.actor import ActorHandle

ATTEMPTS = 3  # times a piece of work is issued before it counts as failed

Spawn = Callable[[int], "ActorHandle"]
Kill = Callable[["ActorHandle"], None]


@dataclass
class Slot:
    """One worker's place.

    Its actor, how much it has to do, and a lock that lets one failure replace it once.
    """

    handle: ActorHandle
    load: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Fleet:
    """N actors of one stateless role.

    `prepare` is run on every new actor before it gets work (load weights, warm up); it is given the
    handle.
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
        """Prepare all workers, side by side."""
        await asyncio.gather(*(self._prepare(slot.handle) for slot in self.slots))

    async def stop(
        self, goodbye: Callable[[ActorHandle], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """End all workers.

        Args:
            goodbye: a last call to each of them; its failures are ignored.
        """
        handles = [slot.handle for slot in self.slots]
        if goodbye is not None:
            await asyncio.gather(*map(goodbye, handles), return_exceptions=True)
        for handle in handles:
            self._kill(handle)

    def least_loaded(self) -> int:
        """Index of the worker with the least to do.

        The first of equals, so that an idle fleet is filled in order.
        """
        return min(range(len(self.slots)), key=lambda i: self.slots[i].load)

    async def replace(self, index: int, failed: ActorHandle) -> None:
        """Put a fresh worker in the place of a failed one, unless another caller did so already."""
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
                self._kill(fresh)  # it holds the slot's resources; the next attempt starts another
                raise
            slot.handle = fresh

    async def on_worker(
        self, index: int, work: Callable[[ActorHandle], Coroutine[Any, Any, None]]
    ) -> bool:
        """Run work on one worker, replacing it and trying again as the failure policy says.

        Returns:
            False where it could not be done in `ATTEMPTS` tries.
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
        """Replace a worker; if its successor is lost too, the next attempt replaces that."""
        try:
            await self.replace(index, failed)
        except Exception as error:
            if decide(error) is not Decision.RESTART:
                raise
