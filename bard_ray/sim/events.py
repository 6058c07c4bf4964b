"""Simulated time: an event queue, clocks of changing speed, first-come-first-served stations."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

Action = Callable[[], None]


class Events:
    """An event queue: actions in order of time, simultaneous ones in the order of scheduling."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Action]] = []
        self._count = 0

    def at(self, time: float, action: Action) -> None:
        """Schedule an action for `time`, or for now if that has passed."""
        self._count += 1
        heapq.heappush(self._queue, (max(time, self.now), self._count, action))

    def run_one(self) -> bool:
        """Run the next action; False if there is none."""
        if not self._queue:
            return False
        self.now, _, action = heapq.heappop(self._queue)
        action()
        return True


class SimClock:
    """Work done by a role whose speed changes, in seconds of the role running alone."""

    def __init__(self) -> None:
        self.rate = 1.0
        self._time = self._work = 0.0

    def work_at(self, time: float) -> float:
        """Work done by `time`."""
        return self._work + (time - self._time) * self.rate

    def time_of(self, work: float) -> float:
        """Time at which `work` is done at the current speed."""
        return self._time + (work - self._work) / self.rate

    def set_rate(self, time: float, rate: float) -> None:
        """Change the speed from `time` on."""
        self._work, self._time, self.rate = self.work_at(time), time, rate


class LeastLoaded:
    """Picks the least loaded member, ties to the lowest index; O(log n)."""

    def __init__(self, size: int) -> None:
        self._loads = [0] * size
        self._queue = [(0, index) for index in range(size)]

    def take(self) -> int:
        """Add one job to the least loaded member; returns its index."""
        while True:
            load, index = heapq.heappop(self._queue)
            if load == self._loads[index]:  # otherwise the entry is out of date
                self._change(index, 1)
                return index

    def give_back(self, index: int) -> None:
        """Remove one job from a member."""
        self._change(index, -1)

    def _change(self, index: int, by: int) -> None:
        self._loads[index] += by
        heapq.heappush(self._queue, (self._loads[index], index))


class Pool:
    """Several stations; each job goes to the least loaded one."""

    def __init__(
        self, size: int, events: Events, on_busy: Callable[[bool], None] | None = None
    ) -> None:
        self.stations = [Station(events, on_busy) for _ in range(size)]
        self._balance = LeastLoaded(size)

    def submit(self, work_s: float, done: Action) -> None:
        """Queue a job; `done` is called when it is finished."""
        index = self._balance.take()

        def finished() -> None:
            self._balance.give_back(index)
            done()

        self.stations[index].submit(work_s, finished)


class Station:
    """One first-come-first-served server, whose speed may change during a job."""

    def __init__(self, events: Events, on_busy: Callable[[bool], None] | None = None) -> None:
        self._events, self._on_busy = events, on_busy
        self._clock = SimClock()
        self._queue: deque[tuple[float, Action]] = deque()
        self._end = 0.0  # work at which the current job is done
        self._plan = 0  # number of the latest event; earlier ones are out of date
        self.busy_s, self._since = 0.0, 0.0

    def submit(self, work_s: float, done: Action) -> None:
        """Queue a job; `done` is called when it is finished."""
        self._queue.append((work_s, done))
        if len(self._queue) == 1:
            self._begin()
            if self._on_busy:
                self._on_busy(True)

    def set_rate(self, rate: float) -> None:
        """Change the speed from now on."""
        if rate == self._clock.rate:
            return
        self._clock.set_rate(self._events.now, rate)
        if self._queue:
            self._schedule()

    def _begin(self) -> None:
        self._since = self._events.now
        self._end = self._clock.work_at(self._since) + self._queue[0][0]
        self._schedule()

    def _schedule(self) -> None:
        self._plan += 1
        plan = self._plan
        self._events.at(self._clock.time_of(self._end), lambda: self._finish(plan))

    def _finish(self, plan: int) -> None:
        if plan != self._plan:
            return
        _, done = self._queue.popleft()
        self.busy_s += self._events.now - self._since
        if self._queue:
            self._begin()
        elif self._on_busy:
            self._on_busy(False)
        done()
