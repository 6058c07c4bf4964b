"""The `Verifier` role over Ray: batches are split over a pool of grading actors."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.cluster.fleet import Fleet, Kill, Spawn
from actors.cluster.supervise import call
from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.process.lanes import Counts

if TYPE_CHECKING:
    from ray.actor import ActorHandle

# Items of one call. Small parts spread a large batch over all workers, and little is graded again
# when a worker is lost; but a call costs as much as a dozen easy gradings.
MIN_PART, MAX_PART = 8, 64
START_LIMIT_S = 120.0
CALL_SLACK_S = 30.0  # time limit of a call beyond the limits of its items


class RayVerifier:
    """The `Verifier` role over grading actors.

    Every item gets exactly one verdict, even if workers are killed during the call. Back-pressure:
    a worker holds at most `max_pending` items, and callers wait until there is room. Each caller
    queues for one part at a time, so a small batch does not wait for all of a large one.
    """

    def __init__(
        self, size: int, spawn: Spawn, kill: Kill, limit_s: float, max_pending: int
    ) -> None:
        self._limit_s, self._max_pending = limit_s, max_pending
        self._fleet = Fleet("verifier", size, spawn, kill, self._prepare)
        self._reserving = asyncio.Lock()  # callers that wait for room, first come first served
        self._freed = asyncio.Event()
        self._counts: dict[ActorHandle, Counts] = {}
        self._totals: Counter[str] = Counter()

    async def start(self) -> None:
        """Wait until every worker has a warm child."""
        await self._fleet.start()

    async def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """One verdict for each item, in order; items that no worker could grade are broken."""
        size = min(MAX_PART, max(MIN_PART, math.ceil(len(items) / len(self._fleet.slots))))
        size = min(size, self._max_pending)
        tasks: list[asyncio.Task[list[Verdict]]] = []
        try:
            for start in range(0, len(items), size):
                part = items[start : start + size]
                tasks.append(self._begin(part, await self._reserve(len(part))))
            graded = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [verdict for part in graded for verdict in part]

    @property
    def pending(self) -> list[int]:
        """Number of items that each worker holds now."""
        return [slot.load for slot in self._fleet.slots]

    def stats(self) -> dict[str, float]:
        """Counters since the start.

        Counted here; `asked` = `graded` + `broken` + `abandoned` once nothing is pending:

        - `asked`: items accepted; an item that is graded again counts again.
        - `graded`: verdicts other than broken ones; `timeouts` and `memory` count those of items
          that hit a limit.
        - `broken`: items that an infrastructure failure kept from being graded.
        - `abandoned`: items whose caller was canceled before the verdict.
        - `reissued`: items sent again because their worker was lost.
        - `workers_replaced`: workers lost.

        Counted by the workers (`bard_ray.verify.process.lanes.Counts`), for lost ones up to their
        last report: `demoted`, `deaths`, `retried`, and `worst_s`, the longest time of one item.
        """
        counts = list(self._counts.values())
        ours = ("asked", "graded", "timeouts", "memory", "broken", "abandoned", "reissued")
        totals: dict[str, float] = {name: self._totals[name] for name in ours}
        totals |= {n: sum(getattr(c, n) for c in counts) for n in ("demoted", "deaths", "retried")}
        totals["worst_s"] = round(max((c.worst_s for c in counts), default=0.0), 4)
        return totals | {"workers_replaced": self._fleet.replaced}

    def metrics(self) -> dict[str, float]:
        """The counters of failures, under their names in `bard_ray.metrics.TABLE`."""
        stats = self.stats()
        names = ("demoted", "deaths", "retried", "reissued", "workers_replaced", "worst_s")
        return {f"grading/{name}": stats[name] for name in names}

    async def _prepare(self, handle: ActorHandle) -> None:
        await call(handle.ping.remote(), START_LIMIT_S, "starting a verifier")

    def _begin(self, items: Sequence[GradeItem], index: int) -> asyncio.Task[list[Verdict]]:
        """Start grading items on the worker they were reserved on; frees the room when done."""
        task = asyncio.create_task(self._grade_part(items, index))

        def on_done(done: asyncio.Task[list[Verdict]]) -> None:
            self._fleet.slots[index].load -= len(items)
            self._freed.set()
            if done.cancelled() or done.exception() is not None:
                self._totals["abandoned"] += len(items)
            else:
                self._count(done.result())

        task.add_done_callback(on_done)
        return task

    async def _grade_part(self, items: Sequence[GradeItem], index: int) -> list[Verdict]:
        verdicts: list[Verdict] = []
        attempts = 0

        async def work(handle: ActorHandle) -> None:
            nonlocal attempts
            attempts += 1
            self._totals["reissued"] += len(items) if attempts > 1 else 0
            limit_s = self._limit_s * (self._fleet.slots[index].load + 1) + CALL_SLACK_S
            graded, counts = await call(handle.grade.remote(list(items)), limit_s, "grading")
            self._counts[handle] = counts
            verdicts.extend(graded)

        if await self._fleet.on_worker(index, work):
            return verdicts
        return [Verdict(Outcome.BROKEN, rule="verifier_lost")] * len(items)

    def _count(self, verdicts: Sequence[Verdict]) -> None:
        broken = sum(verdict.outcome is Outcome.BROKEN for verdict in verdicts)
        self._totals["broken"] += broken
        self._totals["graded"] += len(verdicts) - broken
        self._totals["timeouts"] += sum(verdict.rule == "time_limit" for verdict in verdicts)
        self._totals["memory"] += sum(verdict.rule == "memory_limit" for verdict in verdicts)

    async def _reserve(self, size: int) -> int:
        """Wait until the least loaded worker has room; reserve it and return the worker's index."""
        async with self._reserving:
            while True:
                index = self._fleet.least_loaded()
                slot = self._fleet.slots[index]
                if slot.load + size <= self._max_pending:
                    slot.load += size
                    self._totals["asked"] += size
                    return index
                self._freed.clear()
                await self._freed.wait()
