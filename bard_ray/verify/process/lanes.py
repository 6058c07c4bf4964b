"""Scheduling of items over children: one main lane, and a few slow lanes for items that hang.

The main lane's child gets a chunk of items and grades them in order. An item that takes longer than
`DEMOTE_AFTER_S` while others wait moves to a slow lane together with its child, and a new child
continues with the rest a few milliseconds later. In the slow lane the item may use its full limit.
If all slow lanes are occupied, the main lane waits.

Every job gets exactly one verdict. An item whose child dies while grading it is retried once, then
it is BROKEN: a fault of the system, never a wrong answer.
"""

from __future__ import annotations

import selectors
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from bard_ray.errors import InfrastructureError
from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.process.children import Child, Nursery

CHUNK_ITEMS = 256  # items sent to a child at once; the rest can still go to another child
MAX_DEATHS = 2  # child deaths after which an item is broken
SLOW_LANES = 2
DEMOTE_AFTER_S = 0.1  # ordinary answers take up to 50 ms; at most a quarter of the limit
_IDLE_WAIT_S = 60.0
# A wake-up for every answer costs both sides more than an easy answer. While more than `_FEW` are
# due, this side polls instead.
_FEW = 16
_LOOK_S = 5e-4


@dataclass(slots=True)
class Batch:
    """Items awaited together; `future` resolves to their verdicts, in order."""

    verdicts: list[Verdict | None]
    missing: int
    future: Future[list[Verdict]] = field(default_factory=Future)
    abandoned: bool = False  # the caller no longer waits

    @classmethod
    def of(cls, size: int) -> Batch:
        """A batch without verdicts yet."""
        return cls([None] * size, size)


@dataclass(slots=True)
class Job:
    """One item of a batch."""

    item: GradeItem
    batch: Batch
    index: int
    deaths: int = 0  # of children while grading this item

    def settle(self, verdict: Verdict) -> None:
        """Set the item's verdict; the last one resolves the batch."""
        batch = self.batch
        batch.verdicts[self.index] = verdict
        batch.missing -= 1
        if batch.missing == 0:
            batch.future.set_result([v for v in batch.verdicts if v is not None])


@dataclass
class Counts:
    """Counters since the start.

    Attributes:
        graded: verdicts, including those of broken items.
        timeouts: items stopped at the time limit.
        memory: items stopped at the memory limit.
        demoted: items that moved to a slow lane.
        deaths: children that died while grading an item, killed neither by us nor by a limit.
        retried: items sent to another child after that.
        broken: items that no child could grade.
        worst_s: longest wall time of an item in a child, measured on this side.
    """

    graded: int = 0
    timeouts: int = 0
    memory: int = 0
    demoted: int = 0
    deaths: int = 0
    retried: int = 0
    broken: int = 0
    worst_s: float = 0.0


@dataclass
class _Lane:
    """A child and its jobs; it has been working on the first one since `since`."""

    child: Child
    jobs: deque[Job] = field(default_factory=deque)
    since: float = 0.0

    @property
    def busy_s(self) -> float:
        return time.monotonic() - self.since if self.jobs else 0.0


class Lanes:
    """Schedules jobs over the children of a nursery, from one thread.

    Consumes jobs from `add`; produces verdicts; `turn` waits for the next verdict, death, time
    limit or wake-up.
    """

    def __init__(self, nursery: Nursery, limit_s: float, wake_fd: int) -> None:
        """Schedule over a nursery that nothing else uses.

        Args:
            nursery: source of the children.
            limit_s: wall seconds per item, from the time its child starts on it.
            wake_fd: becomes readable when `turn` should return early; the caller reads it.
        """
        self.counts = Counts()
        self._nursery, self._limit_s = nursery, limit_s
        self._demote_after_s = min(DEMOTE_AFTER_S, limit_s / 4)
        self._queue: deque[Job] = deque()
        self._main: _Lane | None = None
        self._slow: list[_Lane] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(wake_fd, selectors.EVENT_READ)

    def add(self, jobs: Iterable[Job]) -> None:
        """Queue more jobs."""
        self._queue.extend(jobs)

    def warm(self) -> None:
        """Start a child, unless there is one.

        Raises:
            InfrastructureError: no child could be started.
        """
        if self._main is None:
            self._main = self._open()

    def turn(self) -> None:
        """Dispatch work, wait for the next event, and handle it."""
        self._issue()
        if self._main and len(self._main.jobs) > _FEW:
            time.sleep(_LOOK_S)
        ready = {key.data for key, _ in self._selector.select(self._wait_s()) if key.data}
        for lane in [lane for lane in self._lanes() if lane.child.pid in ready]:
            self._collect(lane)
        for lane in self._lanes():
            self._enforce(lane)

    def close(self) -> None:
        """Settle all jobs without a verdict as BROKEN, and stop all children."""
        for lane in self._lanes():
            self._queue.extendleft(reversed(lane.jobs))
            self._drop(lane)
        self._break_queue()
        self._selector.close()

    def _lanes(self) -> list[_Lane]:
        return [*([self._main] if self._main else []), *self._slow]

    def _issue(self) -> None:
        """Give the main lane a chunk, if it has none."""
        while self._queue and self._queue[0].batch.abandoned:
            self._queue.popleft()
        if not self._queue or (self._main and self._main.jobs):
            return
        try:
            self.warm()
        except InfrastructureError:
            self._break_queue()
            return
        lane = self._main
        if lane is not None:
            size = min(CHUNK_ITEMS, len(self._queue))
            lane.jobs.extend(self._queue.popleft() for _ in range(size))
            lane.since = time.monotonic()
            try:
                lane.child.send([job.item for job in lane.jobs], self._limit_s)
            except OSError:
                self._bury(lane)

    def _wait_s(self) -> float:
        """Seconds until the next limit."""
        waits = [self._deadline_s(lane) - lane.busy_s for lane in self._lanes() if lane.jobs]
        return max(0.0, min(waits, default=_IDLE_WAIT_S))

    def _deadline_s(self, lane: _Lane) -> float:
        """Seconds a lane may be busy with its first item before it is demoted or killed."""
        if lane.jobs[0].batch.abandoned or self._demotes(lane):
            return self._demote_after_s
        return self._limit_s

    def _demotes(self, lane: _Lane) -> bool:
        others_wait = len(lane.jobs) > 1 or bool(self._queue)
        return lane is self._main and others_wait and len(self._slow) < SLOW_LANES

    def _collect(self, lane: _Lane) -> None:
        """Record the verdicts that have arrived."""
        try:
            verdicts = lane.child.read()
        except EOFError:
            self._bury(lane)
            return
        for verdict in verdicts[: len(lane.jobs)]:
            self._settle(lane.jobs.popleft(), verdict, time.monotonic() - lane.since)
            lane.since = time.monotonic()
        if lane in self._slow and not lane.jobs:
            self._drop(lane)

    def _enforce(self, lane: _Lane) -> None:
        """Demote or kill a child that exceeded its time."""
        if not lane.jobs or lane.busy_s < self._deadline_s(lane):
            return
        if lane.jobs[0].batch.abandoned:
            lane.jobs.popleft()
            self._requeue(lane)
            self._drop(lane)
        elif lane.busy_s < self._limit_s and self._demotes(lane):
            self._demote(lane)
        else:
            verdict = Verdict(Outcome.TIMEOUT, rule="time_limit", seconds=self._limit_s)
            self._settle(lane.jobs.popleft(), verdict, time.monotonic() - lane.since)
            self._requeue(lane)
            self._drop(lane)

    def _demote(self, lane: _Lane) -> None:
        """Leave the first item to this child and requeue the others."""
        head = lane.jobs.popleft()
        self._requeue(lane)
        lane.jobs.append(head)
        lane.child.yield_cpu()
        self._slow.append(lane)
        self._main = None
        self.counts.demoted += 1

    def _bury(self, lane: _Lane) -> None:
        """Handle a dead child: retry its first item once, and requeue the others."""
        if lane.jobs:
            self.counts.deaths += 1
            head = lane.jobs[0]
            head.deaths += 1
            if head.deaths < MAX_DEATHS:
                self.counts.retried += 1
            else:
                self._break(lane.jobs.popleft(), "process_died")
        self._requeue(lane)
        self._drop(lane)

    def _requeue(self, lane: _Lane) -> None:
        """Put a lane's items back to the front of the queue, in order."""
        self._queue.extendleft(reversed(lane.jobs))
        lane.jobs.clear()

    def _open(self) -> _Lane:
        lane = _Lane(self._nursery.fork())
        self._selector.register(lane.child, selectors.EVENT_READ, lane.child.pid)
        return lane

    def _drop(self, lane: _Lane) -> None:
        self._selector.unregister(lane.child)
        self._nursery.kill(lane.child)
        if lane is self._main:
            self._main = None
        else:
            self._slow.remove(lane)

    def _settle(self, job: Job, verdict: Verdict, wall_s: float) -> None:
        counts = self.counts
        counts.graded += 1
        counts.timeouts += verdict.rule == "time_limit"
        counts.memory += verdict.rule == "memory_limit"
        counts.worst_s = max(counts.worst_s, wall_s)
        job.settle(verdict)

    def _break(self, job: Job, rule: str) -> None:
        self.counts.graded += 1
        self.counts.broken += 1
        job.settle(Verdict(Outcome.BROKEN, rule=rule))

    def _break_queue(self) -> None:
        while self._queue:
            self._break(self._queue.popleft(), "no_process")
