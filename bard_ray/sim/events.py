"""Time: a queue of events, clocks of changing speed, first-come-first-served stations."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

Action = Callable[[], None]


class Events:
    """Actions in order of time; those of one moment in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Action]] = []
        self._count = 0

    def at(self, time: float, action: Action) -> None:
        """Plan an action for `time`, or for now where that has passed."""
        self._count += 1
        heapq.heappush(self._queue, (max(time, self.now), self._count, action))

    def run_one(self) -> bool:
        """Run the next action; False where there is none."""
        if not self._queue:
            return False
        self.now, _, action = heapq.heappop(self._queue)
        action()
        return True


class Clock:
    """Work done by a role, in seconds of it running alone, when its speed changes over time."""

    def __init__(self) -> None:
        self.rate = 1.0
        self._time = self._work = 0.0

    def work_at(self, time: float) -> float:
        """Work done by `time`."""
        return self._work + (time - self._time) * self.rate

    def time_of(self, work: float) -> float:
        """When `work` will be done at the present speed."""
        return self._time + (work - self._work) / self.rate

    def set_rate(self, time: float, rate: float) -> None:
        """Go on at another speed from `time`."""
        self._work, self._time, self.rate = self.work_at(time), time, rate


class LeastLoaded:
    """Picks the member with the least to do, the first of equals; O(log n)."""

    def __init__(self, size: int) -> None:
        self._loads = [0] * size
        self._queue = [(0, index) for index in range(size)]

    def take(self) -> int:
        """Index of the least loaded member, which gets one more."""
        while True:
            load, index = heapq.heappop(self._queue)
            if load == self._loads[index]:  # else out of date
                self._change(index, 1)
                return index

    def give_back(self, index: int) -> None:
        """One piece of work of this member is done."""
        self._change(index, -1)

    def _change(self, index: int, by: int) -> None:
        self._loads[index] += by
        heapq.heappush(self._queue, (self._loads[index], index))


class Pool:
    """Stations behind one door: each job goes to the least loaded."""

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
    """One server, first come first served, whose speed may change while it works."""

    def __init__(self, events: Events, on_busy: Callable[[bool], None] | None = None) -> None:
        self._events, self._on_busy = events, on_busy
        self._clock = Clock()
        self._queue: deque[tuple[float, Action]] = deque()
        self._end = 0.0  # work at which the present job is done
        self._plan = 0  # number of the event that counts; earlier ones are out of date
        self.busy_s, self._since = 0.0, 0.0

    def submit(self, work_s: float, done: Action) -> None:
        """Queue a job; `done` is called when it is finished."""
        self._queue.append((work_s, done))
        if len(self._queue) == 1:
            self._begin()
            if self._on_busy:
                self._on_busy(True)

    def set_rate(self, rate: float) -> None:
        """Go on at another speed."""
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
