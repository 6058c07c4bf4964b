"""The verifier role over Ray: a pool of grading actors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.fleet import Fleet, Kill, Spawn
from actors.supervise import call
from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.lanes import Counts

if TYPE_CHECKING:
    from ray.actor import ActorHandle

# Items of one call. Few, so that a large batch spreads over all workers and little is graded again
# when one is lost; many, since a call costs as much as a dozen easy gradings.
MIN_PART, MAX_PART = 8, 64
START_LIMIT_S = 120.0
CALL_SLACK_S = 30.0  # what a call may take beyond its items' own limits


class RayVerifier:
    """The `Verifier` role over grading actors.

    Every item has exactly one verdict in the result, whatever is killed meanwhile. Back-pressure:
    a worker holds at most `max_pending` items, and callers wait until there is room.
    """

    def __init__(
        self, size: int, spawn: Spawn, kill: Kill, limit_s: float, max_pending: int
    ) -> None:
        self._limit_s, self._max_pending = limit_s, max_pending
        self._fleet = Fleet("verifier", size, spawn, kill, self._prepare)
        self._room = asyncio.Condition()
        self._counts: dict[ActorHandle, Counts] = {}
        self._lost = 0  # items that no worker could grade

    async def start(self) -> None:
        """Wait until every worker has a warm child."""
        await self._fleet.start()

    async def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """Verdicts in order; what no worker could grade is broken, never wrong."""
        size = min(MAX_PART, max(MIN_PART, math.ceil(len(items) / len(self._fleet.slots))))
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        graded = await asyncio.gather(*(self._grade_part(part) for part in parts))
        return [verdict for part in graded for verdict in part]

    @property
    def pending(self) -> list[int]:
        """Items that each worker holds now."""
        return [slot.load for slot in self._fleet.slots]

    def stats(self) -> dict[str, float]:
        """What happened so far, all workers together, lost ones as far as they had reported.

        The counters are those of `bard_ray.verify.lanes.Counts`; `broken` includes items lost with
        their workers, `worst_s` is the longest time one item took.
        """
        counts = list(self._counts.values())
        names = ("graded", "timeouts", "memory", "demoted", "deaths", "retried", "broken")
        totals: dict[str, float] = {n: sum(getattr(c, n) for c in counts) for n in names}
        totals["broken"] += self._lost
        totals["worst_s"] = round(max((c.worst_s for c in counts), default=0.0), 4)
        return totals | {"workers_replaced": self._fleet.replaced}

    async def _prepare(self, handle: ActorHandle) -> None:
        await call(handle.ping.remote(), START_LIMIT_S, "starting a verifier")

    async def _grade_part(self, items: Sequence[GradeItem]) -> list[Verdict]:
        index = await self._reserve(len(items))
        verdicts: list[Verdict] = []

        async def work(handle: ActorHandle) -> None:
            limit_s = self._limit_s * (self._fleet.slots[index].load + 1) + CALL_SLACK_S
            graded, counts = await call(handle.grade.remote(list(items)), limit_s, "grading")
            self._counts[handle] = counts
            verdicts.extend(graded)

        try:
            done = await self._fleet.on_worker(index, work)
        finally:
            await self._release(index, len(items))
        if not done:
            self._lost += len(items)
            return [Verdict(Outcome.BROKEN, rule="verifier_lost")] * len(items)
        return verdicts

    async def _reserve(self, size: int) -> int:
        """Wait until the worker with the least to do has room, and book the items with it."""
        async with self._room:
            while True:
                index = self._fleet.least_loaded()
                slot = self._fleet.slots[index]
                if slot.load == 0 or slot.load + size <= self._max_pending:
                    slot.load += size
                    return index
                await self._room.wait()

    async def _release(self, index: int, size: int) -> None:
        self._fleet.slots[index].load -= size
        async with self._room:
            self._room.notify_all()
