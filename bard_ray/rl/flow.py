"""The flow of groups: admitted, sampled, graded, rewarded, handed over in admission order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import NamedTuple

from bard_ray.errors import InvariantError
from bard_ray.records import (
    Budget,
    Failure,
    FailureKind,
    GradeItem,
    Group,
    GroupRequest,
    Outcome,
    SamplingSpec,
    Verdict,
)
from bard_ray.regrade import UNGRADED, grade_with_retries
from bard_ray.rewards.parts import has_broken
from bard_ray.rewards.reward import GroupReward, RewardedGroup
from bard_ray.rewards.stats import BatchStats, RolloutStat, rollout_stats
from bard_ray.rl.admission import (
    AdmissionWindow,
    LagWindow,
    is_surplus,
    window_slots,
)
from bard_ray.rl.advantages import has_signal
from bard_ray.rl.sequences import sequence_tokens
from bard_ray.rl.state import RLState
from bard_ray.roles import Learner, Reference, Sampler, Verifier

SURPLUS = Failure(FailureKind.SURPLUS, "enough groups before it were trainable")
BACKLOG = 4  # most groups that are kept at a time, finished ones included, in windows


@dataclass(frozen=True)
class RLRoles:
    """The roles of the RL loop; `reference` is None where no term of the loss needs it."""

    sampler: Sampler
    verifier: Verifier
    learner: Learner
    reference: Reference | None


@dataclass(frozen=True)
class FlowSpec:
    """Settings of the flow."""

    # Admission number to request; the same number and statistics always give the same request.
    request: Callable[[int, BatchStats], GroupRequest]
    sampling: SamplingSpec
    lag: LagWindow
    total_groups: int  # trainable groups that the whole run needs; no more are admitted
    max_untrainable: int  # consecutive groups without a trainable one after which the run stops
    oversample: float = 0.0  # extra slots beyond the lag window, as a multiple of prompts_per_step

    @property
    def synchronous(self) -> bool:
        """Admit whole waves only, so that a run is reproducible bit for bit."""
        return self.lag.max_lag == 0


@dataclass
class StepCounts:
    """Counts since the previous `take_counts`: seconds by role, groups by result."""

    sample_s: float = 0.0
    grade_s: float = 0.0
    reference_s: float = 0.0
    sampled: int = 0
    zero_variance: int = 0
    failed: int = 0
    surplus: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)  # of all verdicts
    # Groups not trained on: why (`zero_variance`, `surplus`), and the budget of the first rollout.
    left_out: list[tuple[str, Budget]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FiledGroup:
    """A finished group that waits to be taken in admission order.

    Attributes:
        group: the group; failed ones are filed too.
        rewarded: its rewards and their parts; None if the group failed.
        trainable: it did not fail, and its rewards are not all equal.
    """

    group: Group
    rewarded: RewardedGroup | None = None
    trainable: bool = False

    @classmethod
    def of(cls, rewarded: RewardedGroup) -> FiledGroup:
        """A group that did not fail."""
        return cls(rewarded.group, rewarded, has_signal(rewarded.group))


class _Admission(NamedTuple):
    """An admitted group's request, and the steps published when it was admitted."""

    request: GroupRequest
    steps_published: int


class GroupFlow:
    """Keeps the admission window full and hands out trainable groups in admission order.

    It resumes from `state`, whose steps have all been published.

    Consumes free slots and produces filed groups; `take` waits until the group that is next in
    order is filed. A group holds its slot until it has been trained on and the samplers have the
    resulting weights. A group that has no reward variance or failed releases its slot at once, so
    that its replacement is sampled while the learner works. Bounds: at most as many groups as slots
    are in progress, and at most `BACKLOG` times as many are kept, finished ones included.
    """

    def __init__(
        self,
        roles: RLRoles,
        reward: GroupReward,
        spec: FlowSpec,
        state: RLState,
    ) -> None:
        self.roles, self.reward, self.spec = roles, reward, spec
        self.ledger, self._stats = state.ledger, state.stats
        lag = spec.lag
        slots = window_slots(lag.max_lag, lag.prompts_per_step, spec.oversample)
        self.window = AdmissionWindow(slots, next_number=state.ledger.consumed)
        self.counts = StepCounts()
        self._tasks: asyncio.TaskGroup
        self._next_in_order = self.window.next_number
        self._resumed_budgets = dict(state.asked)
        self._steps_done = self._steps_published = state.step
        self._admissions: dict[int, _Admission] = {}
        self._waiting: dict[int, asyncio.Future[FiledGroup]] = {}
        self._held = 0  # groups handed over and not yet trained on
        self._seen: list[RolloutStat] = []  # of all groups taken since the last `take_seen`
        self._discarded: set[int] = set()
        self._slots_freed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Groups admitted that are neither trained on nor counted as untrainable or surplus."""
        return len(self._waiting) + self._held

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Admit the first window.

        All work runs in `tasks`, so an exception in a role cancels the waiting learner loop too.
        """
        self._tasks = tasks
        self._admit()

    def stop(self) -> None:
        """Cancel the groups in flight; a resumed run requests the same numbers again."""
        for task in self._running:
            task.cancel()

    async def take(self, count: int) -> list[RewardedGroup]:
        """The next `count` trainable groups in admission order; untrainable ones are counted.

        Raises:
            InvariantError: `max_untrainable` consecutive groups could not be trained on.
        """
        groups: list[RewardedGroup] = []
        untrainable = 0
        while len(groups) < count:
            filed = await self._next()
            number, rewarded = filed.group.number, filed.rewarded
            surplus = self._is_surplus(number) or number in self._discarded
            self._discarded.discard(number)
            del self._admissions[number]
            if rewarded is not None and not surplus:
                self._seen += rollout_stats(rewarded.parts)
            if surplus:
                self._count_surplus(filed)
            elif rewarded is not None and filed.trainable:
                self._held += 1
                untrainable = 0
                groups.append(rewarded)
            else:
                untrainable += 1
                self._count_untrainable(filed.group, untrainable)
        return groups

    def trained(self, count: int) -> None:
        """Count the groups of a step as trained on; they keep their slots until `release`."""
        self._held -= count
        self._steps_done += 1
        self.ledger.trained += count

    def release(self, count: int) -> None:
        """Release the slots of a step's groups, after its weights were published."""
        self._steps_published += 1
        self._free(count)

    def take_counts(self) -> StepCounts:
        """Return the counts since the previous call and reset them."""
        counts, self.counts = self.counts, StepCounts()
        return counts

    def take_seen(self) -> list[RolloutStat]:
        """Rollouts of all groups taken since the previous call, in admission order."""
        seen, self._seen = self._seen, []
        return seen

    def _count_untrainable(self, group: Group, in_a_row: int) -> None:
        if group.failure:
            self.ledger.failed += 1
            self.counts.failed += 1
        else:
            self.ledger.zero_variance += 1
            self.counts.zero_variance += 1
            self.counts.left_out.append(("zero_variance", group.request.budgets[0]))
        if in_a_row >= self.spec.max_untrainable:
            reason = f"failed: {group.failure}" if group.failure else "had equal rewards throughout"
            msg = (
                f"{in_a_row} groups in a row could not be trained on (the last {reason}). Are the"
                " questions all too easy or too hard for the student, or is a role broken? See"
                " rl/groups_zero_variance and rl/groups_failed in metrics.jsonl"
            )
            raise InvariantError(msg)

    def _count_surplus(self, filed: FiledGroup) -> None:
        self.ledger.surplus += 1
        self.counts.surplus += 1
        self.counts.left_out.append(("surplus", filed.group.request.budgets[0]))
        if filed.trainable:  # an untrainable one released its slot when it was filed
            self._free(1)

    async def _next(self) -> FiledGroup:
        while self._next_in_order not in self._waiting:
            self._slots_freed.clear()
            self._admit()
            if self._next_in_order not in self._waiting:  # no slot is free before a transfer ends
                await self._slots_freed.wait()
        filed = await self._waiting[self._next_in_order]
        del self._waiting[self._next_in_order]
        self._next_in_order += 1
        return filed

    def _free(self, count: int) -> None:
        self.window.release(count)
        self._slots_freed.set()
        if not self.spec.synchronous:  # otherwise `_next` admits the next wave as a whole
            self._admit()

    def _admit(self) -> None:
        """Admit as many groups as there are free slots and the rest of the run needs."""
        if self._would_be_surplus():
            return
        extra = self.window.slots - window_slots(*astuple(self.spec.lag))
        needed = self.spec.total_groups - self.ledger.trained - self.window.taken + extra
        room = BACKLOG * self.window.slots - len(self._waiting)
        numbers = self.window.take(min(needed, room))
        requests = [self._request(number) for number in numbers]
        if not requests:
            return
        self.ledger.admitted += len(requests)
        published = self._steps_published
        self._admissions |= {r.number: _Admission(r, published) for r in requests}
        loop = asyncio.get_running_loop()
        self._waiting |= {r.number: loop.create_future() for r in requests}
        self._spawn(self._sample(requests))

    def _request(self, number: int) -> GroupRequest:
        """The request of a number; a group in flight at the checkpoint keeps its budgets."""
        request = self.spec.request(number, self._stats)
        budgets = self._resumed_budgets.pop(number, None)
        return request if budgets is None else replace(request, budgets=budgets)

    def asked(self) -> dict[int, tuple[Budget, ...]]:
        """Budgets of the groups in flight, by admission number; part of the checkpoint."""
        return {n: a.request.budgets for n, a in self._admissions.items()}

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _sample(self, requests: Sequence[GroupRequest]) -> None:
        started = time.monotonic()
        async for group in self.roles.sampler.sample(requests, self.spec.sampling):
            self.counts.sample_s += time.monotonic() - started
            self.counts.sampled += 1
            self._spawn(self._finish(group))

    async def _finish(self, group: Group) -> None:
        """Grade, reward and file one group; a failed one is filed too, with its reason."""
        if group.failure is None:
            group = replace(group, verdicts=tuple(await self._grade(group)))
            if has_broken(group):
                group = replace(group, failure=UNGRADED)
        if group.failure is not None:
            self._file(FiledGroup(group))
            return
        filed = FiledGroup.of(self.reward.rewarded(group, self._stats))
        self._file(await self._with_reference(filed))

    def _file(self, filed: FiledGroup) -> None:
        """Make a finished group available to `take`, unless it was discarded before."""
        waiting = self._waiting.get(filed.group.number)
        if waiting is None or waiting.done():
            return
        waiting.set_result(filed)
        if not filed.trainable:
            self._free(1)
        elif self.spec.oversample:
            self._discard_surplus()

    def _discard_surplus(self) -> None:
        """Abort groups in flight that cannot be trained on within the lag bound; O(window)."""
        surplus, before = [], 0
        for number, waiting in self._waiting.items():  # in admission order
            if waiting.done():
                before += waiting.result().trainable and not self._is_surplus(number, before)
            elif self._is_surplus(number, before):
                surplus.append(number)
        for number in surplus:
            self._file(FiledGroup(Group(self._admissions[number].request, failure=SURPLUS)))
        if surplus:
            self._discarded.update(surplus)
            self._spawn(self.roles.sampler.abort(surplus))

    def _is_surplus(self, number: int, trainable_before: int = 0) -> bool:
        admitted_under = self._admissions[number].steps_published
        return is_surplus(self._steps_done, trainable_before, admitted_under, self.spec.lag)

    def _would_be_surplus(self) -> bool:
        """True where a group admitted now would be surplus; never without over-sampling."""
        if not self.spec.oversample:
            return False
        filed = [waiting.result() for waiting in self._waiting.values() if waiting.done()]
        ready = sum(group.trainable for group in filed)
        return is_surplus(self._steps_done, ready, self._steps_published, self.spec.lag)

    async def _grade(self, group: Group) -> list[Verdict]:
        """Verdicts of all rollouts; infrastructure failures are retried (`grade_with_retries`)."""
        started = time.monotonic()
        question = group.request.question
        items = [GradeItem(r.answer_text, question.answer, question.kind) for r in group.rollouts]
        verdicts, outcomes = await grade_with_retries(self.roles.verifier, items)
        self.counts.outcomes.update(outcomes)
        self.counts.grade_s += time.monotonic() - started
        return verdicts

    async def _with_reference(self, filed: FiledGroup) -> FiledGroup:
        """The group with reference log-probs, if it is trainable and the loss needs them."""
        if self.roles.reference is None or filed.rewarded is None or not filed.trainable:
            return filed
        started = time.monotonic()
        sequences = [sequence_tokens(r) for r in filed.group.rollouts]
        logprobs = await self.roles.reference.logprobs(sequences, self.spec.sampling.temperature)
        self.counts.reference_s += time.monotonic() - started
        group = replace(filed.group, reference_logprobs=tuple(logprobs))
        return replace(filed, group=group, rewarded=replace(filed.rewarded, group=group))
