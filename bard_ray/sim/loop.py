"""The RL loop on simulated roles.

Admission, the order of training, zero-variance groups and the two refill modes follow
`bard_ray.rl`; the admission window and the ledger are the same classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bard_ray.errors import InvariantError
from bard_ray.rl.admission import AdmissionWindow, Ledger, window_slots
from bard_ray.rl.flow import BACKLOG
from bard_ray.sim.engine import EngineSim
from bard_ray.sim.events import Events, LeastLoaded, Pool, Station
from bard_ray.sim.model import GroupWork, LoopSpec, System, Workload

LAPS = 3  # wait, train, publish


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step: its end, the learner's times, and what it trained on.

    Attributes:
        end_s: time at which all workers had its weights.
        wait_s, train_s, publish_s: the learner's times.
        samples: rollouts trained on.
        tokens: completion tokens trained on.
        lag: largest number of steps between a group's admission and its training.
    """

    end_s: float
    wait_s: float
    train_s: float
    publish_s: float
    samples: int
    tokens: int
    lag: int


@dataclass(frozen=True)
class Result:
    """A simulated run.

    Attributes:
        busy_marks_s: at each step's end, the seconds that all engines together have been stepping.
    """

    steps: list[StepRecord]
    ledger: Ledger
    in_flight: int
    busy_marks_s: list[float]
    workers: int
    driver_busy_s: float
    preempted: int

    def steady(self, warm: int, tail: int = 0) -> dict[str, float]:
        """Means over the steps without the first `warm` and the last `tail`.

        Raises:
            ValueError: no step is left.
        """
        first, last = warm, len(self.steps) - tail
        if first < 1 or last - first < 1:
            msg = f"{len(self.steps)} steps leave none between the first {warm} and the last {tail}"
            raise ValueError(msg)
        kept, before = self.steps[first:last], self.steps[first - 1]
        wall = kept[-1].end_s - before.end_s
        busy = self.busy_marks_s[last - 1] - self.busy_marks_s[first - 1]
        count = len(kept)
        return {
            "step_s": wall / count,
            "wait_s": sum(s.wait_s for s in kept) / count,
            "train_s": sum(s.train_s for s in kept) / count,
            "publish_s": sum(s.publish_s for s in kept) / count,
            "samples_per_s": sum(s.samples for s in kept) / wall,
            "tokens_per_s": sum(s.tokens for s in kept) / wall,
            "engine_busy_share": busy / (wall * self.workers),
            # These two are over the whole run.
            "driver_busy_share": self.driver_busy_s / self.steps[-1].end_s,
            "zero_variance_per_trained": self.ledger.zero_variance / self.ledger.trained,
            "lag_max": max(s.lag for s in kept),
            "lag_mean": sum(s.lag for s in kept) / count,
        }


@dataclass
class _Step:
    """A step in progress: its batch, and the seconds of its laps (wait, train, publish)."""

    since: float
    batch: list[int] = field(default_factory=list)
    laps: list[float] = field(default_factory=list)

    def lap(self, now: float) -> None:
        """Record the time since the previous lap."""
        self.laps.append(now - self.since)
        self.since = now


def simulate(system: System, spec: LoopSpec, workload: Workload) -> Result:
    """Simulate a run.

    Raises:
        InvariantError: no event is left before the last step, or a group was lost.
    """
    return LoopSim(system, spec, workload).run()


class LoopSim:
    """One simulated run; O(log n) per event, about one event per finished sequence."""

    def __init__(self, system: System, spec: LoopSpec, workload: Workload) -> None:
        self._system, self._spec, self._workload = system, spec, workload
        path, events = system.path, Events()
        self._events = events
        self._window = AdmissionWindow(window_slots(spec.max_lag, spec.prompts_per_step))
        self._ledger = Ledger()
        self._works: dict[int, GroupWork] = {}
        self._admitted_at: dict[int, int] = {}
        self._place: dict[int, int] = {}
        self._waiting: dict[int, bool] = {}  # admitted and not yet taken in order; True once filed
        self._next = self._version = 0
        self._busy = {"engine": 0, "learner": 0, "reference": 0}
        self._engines = [
            EngineSim(system.engine, events, self._sampled, self._watch("engine"))
            for _ in range(path.workers)
        ]
        self._driver = Station(events)
        self._verifiers = Pool(path.verifiers, events)
        self._references = Pool(path.references, events, self._watch("reference"))
        self._learner = Station(events, self._watch("learner"))
        self._balance = LeastLoaded(path.workers)
        self._step = _Step(0.0)
        self._collecting = True
        self._sending = False  # a weight transfer is in flight
        self._gather_next = False  # the learner waits for that transfer before it gathers
        self._steps: list[StepRecord] = []
        self._marks: list[float] = []
        self._held = 0

    def run(self) -> Result:
        """Run until all workers have the weights of the last step to be simulated."""
        self._admit()
        stop = self._spec.stop_after or self._spec.steps
        while len(self._steps) < stop:
            if not self._events.run_one():
                msg = f"the simulated loop is deadlocked after {len(self._steps)} steps"
                raise InvariantError(msg)
        in_flight = len(self._waiting) + self._held
        self._ledger.check(in_flight)
        return Result(
            self._steps,
            self._ledger,
            in_flight,
            self._marks,
            len(self._engines),
            self._driver.busy_s,
            sum(e.preempted for e in self._engines),
        )

    # --- groups

    def _admit(self) -> None:
        """Admit as many groups as there are free slots and the rest of the run needs."""
        total = self._spec.steps * self._spec.prompts_per_step
        needed = total - self._ledger.trained - self._window.taken
        room = BACKLOG * self._window.slots - len(self._waiting)
        numbers = self._window.take(min(needed, room))
        self._ledger.admitted += len(numbers)
        for number in numbers:
            self._works[number] = self._workload.group(number)
            self._admitted_at[number] = self._version
            self._waiting[number] = False
            self._place[number] = self._balance.take()
        if numbers:
            due = self._events.now + self._system.path.call_s
            self._events.at(due, lambda: self._submit(numbers))

    def _submit(self, numbers: range) -> None:
        for number in numbers:
            self._engines[self._place[number]].submit(number, self._works[number])

    def _sampled(self, number: int) -> None:
        """Send a group whose last token was sampled to the driver."""
        path, work = self._system.path, self._works[number]
        self._balance.give_back(self._place.pop(number))
        cost = path.driver_group_s + path.driver_token_s * work.tokens
        due = self._events.now + path.call_s
        self._events.at(due, lambda: self._driver.submit(cost, lambda: self._grade(number)))

    def _grade(self, number: int) -> None:
        cost = self._system.path.answer_s * len(self._works[number].lengths_G)
        self._verifiers.submit(cost, lambda: self._score_reference(number))

    def _score_reference(self, number: int) -> None:
        path, work = self._system.path, self._works[number]
        if work.zero_variance or not path.references:
            self._file(number)
            return
        cost = path.reference_group_s + path.reference_token_s * work.tokens
        self._references.submit(cost, lambda: self._file(number))

    def _file(self, number: int) -> None:
        self._waiting[number] = True
        if self._works[number].zero_variance:
            self._free(1)
        self._collect()

    def _free(self, count: int) -> None:
        self._window.release(count)
        if self._spec.max_lag > 0:  # otherwise `_collect` admits the next wave as a whole
            self._admit()

    # --- learner

    def _collect(self) -> None:
        """Take filed groups in order of admission until the batch is full, then train."""
        batch = self._step.batch
        while self._collecting and len(batch) < self._spec.prompts_per_step:
            if self._next not in self._waiting:
                self._admit()
            if not self._waiting.get(self._next, False):
                return
            number, self._next = self._next, self._next + 1
            del self._waiting[number]
            if self._works[number].zero_variance:
                self._ledger.zero_variance += 1
                self._remove(number)
            else:
                self._held += 1
                batch.append(number)
        if self._collecting:
            self._collecting = False
            self._train()

    def _remove(self, number: int) -> GroupWork:
        del self._admitted_at[number]
        return self._works.pop(number)

    def _train(self) -> None:
        self._step.lap(self._events.now)
        works = [self._works[n] for n in self._step.batch]
        tokens = sum(w.tokens for w in works)
        longest = max(max(w.lengths_G) + w.prompt_tokens for w in works)
        self._learner.submit(self._system.learner.train_s(tokens, longest), self._trained)

    def _trained(self) -> None:
        self._step.lap(self._events.now)
        if self._sending:
            self._gather_next = True
        else:
            self._gather()

    def _gather(self) -> None:
        self._sending, self._gather_next = True, False
        self._learner.submit(self._system.learner.gather_s, self._send)

    def _send(self) -> None:
        """Send weights to every worker; the next step begins now, or once all workers have them."""
        step, missing = self._step, len(self._engines)

        def loaded() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                self._finish_step(step)

        def arrived() -> None:
            for engine in self._engines:
                engine.update(loaded)

        self._events.at(self._events.now + self._system.path.broadcast_s, arrived)
        last = len(self._steps) + 1 == self._spec.steps
        if self._spec.overlap_publish and not last:
            self._step.lap(self._events.now)
            self._begin_step()

    def _finish_step(self, step: _Step) -> None:
        """End a step whose weights all workers have, and release its slots."""
        self._sending = False
        if len(step.laps) == LAPS - 1:
            step.lap(self._events.now)
        self._record(step)
        self._version += 1
        self._held -= len(step.batch)
        self._ledger.trained += len(step.batch)
        self._free(len(step.batch))
        if self._gather_next:
            self._gather()
        if step is self._step:
            self._events.at(self._events.now + self._system.path.step_s, self._begin_step)
        else:
            self._collect()

    def _begin_step(self) -> None:
        self._step, self._collecting = _Step(self._events.now), True
        self._collect()

    def _record(self, step: _Step) -> None:
        lag = max(len(self._steps) - self._admitted_at[n] for n in step.batch)
        works = [self._remove(n) for n in step.batch]
        samples = sum(len(w.lengths_G) for w in works)
        tokens = sum(sum(w.lengths_G) for w in works)
        wait_s, train_s, publish_s = step.laps
        self._steps.append(
            StepRecord(self._events.now, wait_s, train_s, publish_s, samples, tokens, lag)
        )
        self._marks.append(sum(e.busy_s for e in self._engines))

    # --- shared cores

    def _watch(self, role: str) -> Callable[[bool], None] | None:
        """Callback for a member of the role that becomes busy or idle; None without contention."""
        if not self._system.contention.any:
            return None

        def on_busy(busy: bool) -> None:
            self._busy[role] += 1 if busy else -1
            self._set_rates()

        return on_busy

    def _set_rates(self) -> None:
        """Set every role's speed by the number of other roles that are busy."""
        members: dict[str, Sequence[EngineSim | Station]] = {
            "engine": self._engines,
            "learner": [self._learner],
            "reference": self._references.stations,
        }
        for role, group in members.items():
            others = sum(self._busy[name] > 0 for name in self._busy if name != role)
            factor = getattr(self._system.contention, role)[others]
            for member in group:
                member.set_rate(1 / factor)
