"""A simulated continuous-batching engine that advances from one change of its batch to the next.

Between two changes n sequences run and each step takes `c n` longer than the one before, with
c = `cached_token_s`. The time of k steps is thus a closed form, and steps are not simulated one by
one.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bard_ray.sim.events import Events, SimClock
from bard_ray.sim.model import EngineTimes, GroupWork

OnGroup = Callable[[int], None]
NEVER = math.inf


@dataclass(slots=True)
class _Sequence:
    """One rollout.

    Attributes:
        group: number of its group.
        left: tokens still to be sampled.
        context: tokens that have to be in the cache before it runs.
        prefill: those of them that have to be computed when it starts.
        joined: step index at which it started to run.
        order: position in the order of starting; the largest is preempted first.
    """

    group: int
    left: int
    context: int
    prefill: int
    joined: int = 0
    order: int = 0


class EngineSim:
    """One engine; calls `on_group` with a group's number when its last sequence is done."""

    def __init__(
        self,
        times: EngineTimes,
        events: Events,
        on_group: OnGroup,
        on_busy: Callable[[bool], None] | None = None,
    ) -> None:
        self._times, self._events = times, events
        self._on_group, self._on_busy = on_group, on_busy
        self._clock = SimClock()
        self._waiting: deque[_Sequence] = deque()
        self._running: dict[int, _Sequence] = {}
        self._finishing: list[tuple[int, int]] = []  # (step index, order), smallest first
        self._missing: dict[int, int] = {}  # unfinished sequences of each group
        self._loads: list[Callable[[], None]] = []
        self._step = self._order = self._plan = self._planned = 0
        self._cached = 0.0
        self._start = 0.0  # work at which the next step begins
        self._requested = NEVER  # work at which a boundary was requested
        self._boundary_s = self._between_s = 0.0
        self._busy = False
        self.busy_s, self.tokens, self.steps, self.preempted = 0.0, 0, 0, 0

    def submit(self, number: int, work: GroupWork) -> None:
        """Queue a group; its sequences start at the next step boundary at which there is room."""
        size = len(work.lengths_G)
        self._missing[number] = size
        for index, length in enumerate(work.lengths_G):
            again = index > 0 and self._times.shared_prefix
            prefill = 0 if again else work.prompt_tokens
            self._waiting.append(_Sequence(number, length, work.prompt_tokens, prefill))
        if len(self._running) < self._times.max_num_seqs:
            self._request_boundary()

    def update(self, done: Callable[[], None]) -> None:
        """Load weights at the next step boundary; `done` is called when they are loaded."""
        self._loads.append(done)
        self._request_boundary()

    def set_rate(self, rate: float) -> None:
        """Change the speed from now on."""
        if rate != self._clock.rate:
            self._clock.set_rate(self._events.now, rate)
            if self._busy:
                self._schedule()

    def _request_boundary(self) -> None:
        """End the current run of steps at the next step boundary."""
        now = self._clock.work_at(self._events.now)
        if not self._busy:
            self._busy, self._boundary_s = True, self._events.now
            self._start = max(self._start, now)
            if self._on_busy:
                self._on_busy(True)
        if self._requested == NEVER:
            self._requested = now
            self._schedule()

    # --- from one boundary to the next

    def _steps_s(self, steps: int) -> float:
        """Work of the next `steps` steps with the current batch."""
        t, n = self._times, len(self._running)
        first = t.step_s + n * t.sequence_s + self._cached * t.cached_token_s
        return steps * first + t.cached_token_s * n * steps * (steps - 1) / 2

    def _steps_until(self, work: float) -> int:
        """Number of whole steps, at least one, after which `work` has passed."""
        t, n = self._times, len(self._running)
        first = t.step_s + n * t.sequence_s + self._cached * t.cached_token_s
        grow, left = t.cached_token_s * n, work - self._start
        if left <= first:
            return 1
        half = first - grow / 2
        exact = left / first if grow == 0 else (math.sqrt(half**2 + 2 * grow * left) - half) / grow
        return max(1, math.ceil(exact - 1e-9))

    def _schedule(self) -> None:
        """Schedule the next boundary at which the batch changes; replaces the previous one."""
        self._plan += 1
        plan, steps = self._plan, 0
        if self._running:
            steps = self._finishing[0][0] - self._step
            if self._requested < NEVER:
                steps = min(steps, self._steps_until(self._requested))
            room = (self._times.kv_tokens - self._cached) / len(self._running)
            if room < steps:
                steps = max(1, int(room))
        self._planned = steps
        due = self._clock.time_of(self._start + self._steps_s(steps))
        self._events.at(due, lambda: self._boundary(plan))

    def _boundary(self, plan: int) -> None:
        if plan != self._plan:
            return
        steps, running = self._planned, len(self._running)
        if steps:
            between = self._between_s / self._clock.rate
            self.busy_s += max(0.0, self._events.now - self._boundary_s - between)
        self._boundary_s, self._between_s = self._events.now, 0.0
        self._start += self._steps_s(steps)
        self._step += steps
        self.steps += steps
        self._cached += running * steps
        self._requested = NEVER
        finished = self._finish()
        self._load()
        self._make_room()
        self._admit()
        if self._running:
            self._schedule()
        else:
            self._busy = False
            if self._on_busy:
                self._on_busy(False)
        for number in finished:
            self._on_group(number)

    def _finish(self) -> list[int]:
        """Remove finished sequences; returns the groups that are complete."""
        complete = []
        while self._finishing and self._finishing[0][0] <= self._step:
            _, order = heapq.heappop(self._finishing)
            sequence = self._running.get(order)
            if sequence is None:  # it was preempted
                continue
            del self._running[order]
            self._cached -= sequence.context + sequence.left
            self.tokens += sequence.left
            self._missing[sequence.group] -= 1
            if not self._missing[sequence.group]:
                del self._missing[sequence.group]
                complete.append(sequence.group)
        self._drop_stale()
        return complete

    def _drop_stale(self) -> None:
        """Drop entries of preempted sequences, which must not determine the next boundary."""
        while self._finishing and self._finishing[0][1] not in self._running:
            heapq.heappop(self._finishing)

    def _load(self) -> None:
        for done in self._loads:
            self._start += self._times.load_s
            self._between_s += self._times.load_s
            self._events.at(self._clock.time_of(self._start), done)
        self._loads.clear()

    def _make_room(self) -> None:
        """Preempt the newest sequences until one more step fits into the cache."""
        preempted = False
        while len(self._running) > 1 and self._cached + len(self._running) > self._times.kv_tokens:
            _, sequence = self._running.popitem()
            sampled = self._step - sequence.joined
            self._cached -= sequence.context + sampled
            self.tokens += sampled
            sequence.context += sampled
            sequence.left -= sampled
            sequence.prefill = sequence.context
            self._waiting.appendleft(sequence)
            self.preempted += 1
            preempted = True
        if preempted:
            self._drop_stale()

    def _admit(self) -> None:
        """Start waiting sequences while there is room; their prefill lengthens the next step."""
        t = self._times
        while self._waiting and len(self._running) < t.max_num_seqs:
            sequence = self._waiting[0]
            needed = self._cached + sequence.context + len(self._running) + 1
            if self._running and needed > t.kv_tokens:
                return
            self._waiting.popleft()
            self._order += 1
            sequence.order, sequence.joined = self._order, self._step
            self._running[sequence.order] = sequence
            self._cached += sequence.context
            self._start += t.request_s + t.add_s + sequence.prefill * t.prompt_token_s
            self._between_s += t.add_s
            heapq.heappush(self._finishing, (self._step + sequence.left, sequence.order))
