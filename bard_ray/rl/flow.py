"""Groups on their way through the roles.

They are admitted, sampled, graded, rewarded, and handed over in admission order.
"""

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
BACKLOG = 4  # groups kept in all, in multiples of the window


@dataclass(frozen=True)
class RLRoles:
    """Who does the work. `reference` is None where no term of the loss needs it."""

    sampler: Sampler
    verifier: Verifier
    learner: Learner
    reference: Reference | None


@dataclass(frozen=True)
class FlowSpec:
    """What the flow needs to know besides the roles."""

    # Admission number to work; the same number and statistics always give the same work.
    request: Callable[[int, BatchStats], GroupRequest]
    sampling: SamplingSpec
    lag: LagWindow
    total_groups: int  # trainable groups the whole run needs; no more are admitted
    max_untrainable: int  # groups in a row without a trainable one before the run stops
    oversample: float = 0.0  # slots beyond the window of the lag bound, in multiples of a step's

    @property
    def synchronous(self) -> bool:
        """Refill in whole waves only, so that a run repeats to the bit."""
        return self.lag.max_lag == 0


@dataclass
class StepCounts:
    """What happened since it was last taken: seconds spent, groups served and left out."""

    sample_s: float = 0.0
    grade_s: float = 0.0
    reference_s: float = 0.0
    sampled: int = 0
    zero_variance: int = 0
    failed: int = 0
    surplus: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)  # of every verdict given
    # why a group was not trained on (`zero_variance`, `surplus`), and the budget of its first
    # rollout
    left_out: list[tuple[str, Budget]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FiledGroup:
    """A group whose turn comes: with what its rewards were made of, unless it failed.

    Attributes:
        trainable: it came through, and its rewards differ.
    """

    group: Group
    rewarded: RewardedGroup | None = None
    trainable: bool = False

    @classmethod
    def of(cls, rewarded: RewardedGroup) -> FiledGroup:
        """A group that came through."""
        return cls(rewarded.group, rewarded, has_signal(rewarded.group))


class _Admission(NamedTuple):
    """What is remembered of a group until its turn comes."""

    request: GroupRequest
    steps_published: int


class GroupFlow:
    """Keeps the admission window full and hands out trainable groups in admission order.

    It goes on from `state`, whose steps have all been published.

    Consumes free slots; produces filed groups; waits in `take` for the next number in order, until
    some role files it. A group holds its slot until it has been trained on and the weights made
    from it have arrived at the samplers; one that turns out to have no reward variance or failed
    gives it back at once, so that its replacement is under way while the learner works. Bounded: no
    more groups than slots are being worked on, and at most `BACKLOG` times as many are kept in all.
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
        self._asked_before = dict(state.asked)
        self._steps_done = self._steps_published = state.step
        self._admissions: dict[int, _Admission] = {}
        self._waiting: dict[int, asyncio.Future[FiledGroup]] = {}
        self._held = 0  # groups handed over and not yet trained on
        self._seen: list[RolloutStat] = []  # of all groups since they were last taken
        self._discarded: set[int] = set()
        self._slots_freed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Groups asked for and neither trained on nor counted as zero variance or failed."""
        return len(self._waiting) + self._held

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Admit the first window. A failure here ends `tasks`: nobody waits for a dead producer."""
        self._tasks = tasks
        self._admit()

    def stop(self) -> None:
        """Drop what is still under way; a restart would ask for the same numbers again."""
        for task in self._running:
            task.cancel()

    async def take(self, count: int) -> list[RewardedGroup]:
        """The next `count` trainable groups in admission order; the others are counted.

        Raises:
            InvariantError: so many groups in a row could not be trained on that the run would never
                end.
        """
        groups: list[RewardedGroup] = []
        untrainable = 0
        while len(groups) < count:
            filed = await self._next()
            number, rewarded = filed.group.number, filed.rewarded
            late = self._is_late(number) or number in self._discarded
            self._discarded.discard(number)
            del self._admissions[number]
            if rewarded is not None and not late:
                self._seen += rollout_stats(rewarded.parts)
            if late:
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
        """Book the groups of a step as trained on; they keep their slots until `release`."""
        self._held -= count
        self._steps_done += 1
        self.ledger.trained += count

    def release(self, count: int) -> None:
        """Give back the slots of a step's groups, after its weights were published."""
        self._steps_published += 1
        self._free(count)

    def take_counts(self) -> StepCounts:
        """The counts since the last call."""
        counts, self.counts = self.counts, StepCounts()
        return counts

    def take_seen(self) -> list[RolloutStat]:
        """Rollouts of all groups taken since the last call, in admission order."""
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
        if filed.trainable:  # else it gave its slot back when it was filed
            self._free(1)

    async def _next(self) -> FiledGroup:
        while self._next_in_order not in self._waiting:
            self._slots_freed.clear()
            self._admit()
            if self._next_in_order not in self._waiting:  # all slots wait for a weight transfer
                await self._slots_freed.wait()
        filed = await self._waiting[self._next_in_order]
        del self._waiting[self._next_in_order]
        self._next_in_order += 1
        return filed

    def _free(self, count: int) -> None:
        self.window.release(count)
        self._slots_freed.set()
        if not self.spec.synchronous:  # else `_next` refills once the wave is used up
            self._admit()

    def _admit(self) -> None:
        """Ask for as many groups as slots are free and the rest of the run can use."""
        if self._too_late_for_more():
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
        """What a number asks for; after a restart, what it asked for before."""
        request = self.spec.request(number, self._stats)
        asked = self._asked_before.pop(number, None)
        return request if asked is None else replace(request, budgets=asked)

    def asked(self) -> dict[int, tuple[Budget, ...]]:
        """Budgets of the groups in flight by number, for a restart to ask for again."""
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
        """Have a group wait for its turn, unless it was discarded meanwhile."""
        waiting = self._waiting.get(filed.group.number)
        if waiting is None or waiting.done():
            return
        waiting.set_result(filed)
        if not filed.trainable:
            self._free(1)
        elif self.spec.oversample:
            self._discard_surplus()

    def _discard_surplus(self) -> None:
        """Stop generating the groups whose turn would come too late.

        Consumes nothing, waits for nothing; O(window).
        """
        late, before = [], 0
        for number, waiting in self._waiting.items():  # in admission order
            if waiting.done():
                before += waiting.result().trainable and not self._is_late(number, before)
            elif self._is_late(number, before):
                late.append(number)
        for number in late:
            self._file(FiledGroup(Group(self._admissions[number].request, failure=SURPLUS)))
        if late:
            self._discarded.update(late)
            self._spawn(self.roles.sampler.abort(late))

    def _is_late(self, number: int, trainable_before: int = 0) -> bool:
        admitted_under = self._admissions[number].steps_published
        return is_surplus(self._steps_done, trainable_before, admitted_under, self.spec.lag)

    def _too_late_for_more(self) -> bool:
        """Would a group that is admitted now be surplus at once? Never so without over-sampling."""
        if not self.spec.oversample:
            return False
        filed = [waiting.result() for waiting in self._waiting.values() if waiting.done()]
        ready = sum(group.trainable for group in filed)
        return is_surplus(self._steps_done, ready, self._steps_published, self.spec.lag)

    async def _grade(self, group: Group) -> list[Verdict]:
        """Verdicts of all rollouts.

        Infrastructure trouble is tried again, never turned into a wrong answer.
        """
        started = time.monotonic()
        question = group.request.question
        items = [GradeItem(r.answer_text, question.answer, question.kind) for r in group.rollouts]
        verdicts, given = await grade_with_retries(self.roles.verifier, items)
        self.counts.outcomes.update(given)
        self.counts.grade_s += time.monotonic() - started
        return verdicts

    async def _with_reference(self, filed: FiledGroup) -> FiledGroup:
        """The same with reference log-probs, where a term of the loss needs them."""
        if self.roles.reference is None or filed.rewarded is None or not filed.trainable:
            return filed
        started = time.monotonic()
        sequences = [sequence_tokens(r) for r in filed.group.rollouts]
        logprobs = await self.roles.reference.logprobs(sequences, self.spec.sampling.temperature)
        self.counts.reference_s += time.monotonic() - started
        group = replace(filed.group, reference_logprobs=tuple(logprobs))
        return replace(filed, group=group, rewarded=replace(filed.rewarded, group=group))
