"""The verifier role over Ray: a pool of grading actors."""

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

# Items of one call. Few, so that a large batch spreads over all workers and little is graded again
# when one is lost; many, since a call costs as much as a dozen easy gradings.
MIN_PART, MAX_PART = 8, 64
START_LIMIT_S = 120.0
CALL_SLACK_S = 30.0  # what a call may take beyond its items' own limits


class RayVerifier:
    """The `Verifier` role over grading actors.

    Every item has exactly one verdict in the result, whatever is killed meanwhile. Back-pressure:
    a worker holds at most `max_pending` items, and callers wait until there is room. They wait with
    one part each, so that a small batch need not wait for the whole of a large one.
    """

    def __init__(
        self, size: int, spawn: Spawn, kill: Kill, limit_s: float, max_pending: int
    ) -> None:
        self._limit_s, self._max_pending = limit_s, max_pending
        self._fleet = Fleet("verifier", size, spawn, kill, self._prepare)
        self._line = asyncio.Lock()  # who waits for room, first come first served
        self._freed = asyncio.Event()
        self._counts: dict[ActorHandle, Counts] = {}
        self._given: Counter[str] = Counter()

    async def start(self) -> None:
        """Wait until every worker has a warm child."""
        await self._fleet.start()

    async def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """Verdicts in order; what no worker could grade is broken, never wrong."""
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
        """Items that each worker holds now."""
        return [slot.load for slot in self._fleet.slots]

    def stats(self) -> dict[str, float]:
        """What happened so far.

        Counted here; `asked` = `graded` + `broken` + `abandoned` once nothing is pending:

        - `asked`: items taken on; one that is graded again counts again.
        - `graded`: verdicts given but for the broken ones; `timeouts` and `memory` of them are of
          items that hit a limit.
        - `broken`: verdicts of items that the machinery failed to grade.
        - `abandoned`: items whose caller did not wait for the verdict.
        - `reissued`: items handed out again because their worker was lost.
        - `workers_replaced`: workers lost.

        Counted by the workers (`bard_ray.verify.process.lanes.Counts`), lost ones as far as they
        had reported: `demoted`, `deaths`, `retried`, and `worst_s`, the longest time of one item.
        """
        counts = list(self._counts.values())
        ours = ("asked", "graded", "timeouts", "memory", "broken", "abandoned", "reissued")
        totals: dict[str, float] = {name: self._given[name] for name in ours}
        totals |= {n: sum(getattr(c, n) for c in counts) for n in ("demoted", "deaths", "retried")}
        totals["worst_s"] = round(max((c.worst_s for c in counts), default=0.0), 4)
        return totals | {"workers_replaced": self._fleet.replaced}

    def metrics(self) -> dict[str, float]:
        """The counters that tell of trouble, under their names in `bard_ray.metrics.TABLE`."""
        stats = self.stats()
        names = ("demoted", "deaths", "retried", "reissued", "workers_replaced", "worst_s")
        return {f"grading/{name}": stats[name] for name in names}

    async def _prepare(self, handle: ActorHandle) -> None:
        await call(handle.ping.remote(), START_LIMIT_S, "starting a verifier")

    def _begin(self, items: Sequence[GradeItem], index: int) -> asyncio.Task[list[Verdict]]:
        """Grade items on the worker they are booked with; their place is free afterward."""
        task = asyncio.create_task(self._grade_part(items, index))

        def on_done(done: asyncio.Task[list[Verdict]]) -> None:
            self._fleet.slots[index].load -= len(items)
            self._freed.set()
            if done.cancelled() or done.exception() is not None:
                self._given["abandoned"] += len(items)
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
            self._given["reissued"] += len(items) if attempts > 1 else 0
            limit_s = self._limit_s * (self._fleet.slots[index].load + 1) + CALL_SLACK_S
            graded, counts = await call(handle.grade.remote(list(items)), limit_s, "grading")
            self._counts[handle] = counts
            verdicts.extend(graded)

        if await self._fleet.on_worker(index, work):
            return verdicts
        return [Verdict(Outcome.BROKEN, rule="verifier_lost")] * len(items)

    def _count(self, verdicts: Sequence[Verdict]) -> None:
        broken = sum(verdict.outcome is Outcome.BROKEN for verdict in verdicts)
        self._given["broken"] += broken
        self._given["graded"] += len(verdicts) - broken
        self._given["timeouts"] += sum(verdict.rule == "time_limit" for verdict in verdicts)
        self._given["memory"] += sum(verdict.rule == "memory_limit" for verdict in verdicts)

    async def _reserve(self, size: int) -> int:
        """Wait until the worker with the least to do has room, and book the items with it."""
        async with self._line:
            while True:
                index = self._fleet.least_loaded()
                slot = self._fleet.slots[index]
                if slot.load + size <= self._max_pending:
                    slot.load += size
                    self._given["asked"] += size
                    return index
                self._freed.clear()
                await self._freed.wait()
