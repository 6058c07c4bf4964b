"""Invariants of the admission window under latencies, failures and zero-variance groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bard_ray.budget.span import ThinkTags
from bard_ray.learn.spec import LossSpec
from bard_ray.records import (
    Failure,
    FailureKind,
    GradeItem,
    Group,
    GroupRequest,
    Message,
    Outcome,
    Question,
    Rollout,
    SamplingSpec,
    StepStats,
    TrainSequence,
    Verdict,
)
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.assemble import Completion, assemble, prompt_segment
from bard_ray.roles import Published
from tests.loop.fakes import (
    ANSWER,
    CLOSE,
    LENGTHS,
    THINK,
    FakeLearner,
    FakeSampler,
    FakeVerifier,
    LoopRun,
)
from tests.loop.virtual import run_virtually


@dataclass(frozen=True)
class World:
    """All random latencies and outcomes, as a pure function of a seed."""

    seed: int
    sample_s: float = 1.0
    grade_s: float = 1.0
    train_s: float = 1.0
    publish_s: float = 1.0
    failed_share: float = 0.0
    zero_variance_share: float = 0.0

    def draw(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def wait(self, mean_s: float, *key: int) -> float:
        """Log-normal with a heavy tail: one in twenty takes more than five times the median."""
        return mean_s * float(self.draw(*key).lognormal(0.0, 1.0))

    def fate(self, number: int) -> str:
        chance = self.draw(0, number).random()
        if chance < self.failed_share:
            return "failed"
        return "zero_variance" if chance < self.failed_share + self.zero_variance_share else "good"


@dataclass
class InFlightSampler(FakeSampler):
    """Weights change while requests run; each token has the version that sampled it."""

    world: World = field(default_factory=lambda: World(0))
    running: set[int] = field(default_factory=set)
    most_running: int = 0

    async def sample(
        self, requests: Sequence[GroupRequest], spec: SamplingSpec
    ) -> AsyncIterator[Group]:
        self.running |= {r.number for r in requests}
        self.most_running = max(self.most_running, len(self.running))
        async for group in super().sample(requests, spec):
            self.running.discard(group.number)
            yield group

    async def _one(self, request: GroupRequest) -> Group:
        first = self.version
        self.seen.append((request.number, first))
        await asyncio.sleep(self.world.wait(self.world.sample_s, 1, request.number))
        if self.world.fate(request.number) == "failed":
            return Group(request, failure=Failure(FailureKind.WORKER_LOST, "lost"))
        versions = (first, self.version)
        return Group(request, tuple(self._lengths(request, versions)))

    def _lengths(self, request: GroupRequest, versions: tuple[int, int]) -> Iterator[Rollout]:
        """One rollout on budget and one far off, so that rewards differ."""
        prompt = prompt_segment(np.array([request.number, 9], np.int32))
        for budget, length in zip(request.budgets, (5, LENGTHS), strict=True):
            tokens = np.array([THINK] * length + [CLOSE, ANSWER], np.int32)
            version = np.linspace(versions[0], versions[1], tokens.size).astype(np.int32)
            completion = Completion(tokens, np.zeros(tokens.size, np.float32), version, "stop")
            yield assemble(prompt, completion, budget, ThinkTags(CLOSE), None, lambda ids: "right")

    async def publish(self, weights: Published, version: int) -> float:
        await asyncio.sleep(self.world.wait(self.world.publish_s, 2, version))
        return await super().publish(weights, version)


@dataclass
class SlowVerifier(FakeVerifier):
    world: World = field(default_factory=lambda: World(0))

    async def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        number = int(items[0].gold)
        await asyncio.sleep(self.world.wait(self.world.grade_s, 3, number))
        zero_variance = self.world.fate(number) == "zero_variance"
        return [Verdict(Outcome.WRONG if zero_variance else Outcome.CORRECT) for _ in items]


@dataclass
class RecordingLearner(FakeLearner):
    """Records the admission numbers of each step, which are the first tokens of the prompts."""

    world: World = field(default_factory=lambda: World(0))
    by_step: list[list[int]] = field(default_factory=list)

    async def step(
        self, sequences: Sequence[TrainSequence], loss: LossSpec, lr: float
    ) -> StepStats:
        await asyncio.sleep(self.world.wait(self.world.train_s, 4, len(self.by_step)))
        self.by_step.append([int(s.tokens_T[0]) for s in sequences][::2])
        return StepStats({})


@dataclass
class WorldRun(LoopRun):
    sampler: InFlightSampler = field(default_factory=InFlightSampler)
    learner: RecordingLearner = field(default_factory=RecordingLearner)

    def request(self, number: int, stats: BatchStats) -> GroupRequest:
        question = Question(f"q{number}", (Message("user", "?"),), str(number), "string")
        return replace(super().request(number, stats), question=question)


def run_of(
    world: World, max_lag: int, prompts: int, steps: int, oversample: float = 0.0
) -> tuple[WorldRun, float]:
    run = WorldRun(
        max_lag=max_lag,
        oversample=oversample,
        prompts=prompts,
        steps=steps,
        group_size=2,
        sampler=InFlightSampler(world=world),
        verifier=SlowVerifier(world=world),
        learner=RecordingLearner(world=world),
    )
    return run, run_virtually(run.go())


SECONDS = st.sampled_from([0.0, 0.1, 1.0, 30.0])
WORLDS = st.builds(
    World,
    seed=st.integers(0, 2**32 - 1),
    sample_s=SECONDS,
    grade_s=SECONDS,
    train_s=SECONDS,
    publish_s=SECONDS,
    failed_share=st.sampled_from([0.0, 0.1, 0.4]),
    zero_variance_share=st.sampled_from([0.0, 0.1, 0.4]),
)


def lags_of(run: WorldRun) -> list[int]:
    """Largest lag of each step, from the versions that the sampler recorded.

    The first token of a group is its oldest, and step i trains version i.
    """
    began = dict(run.sampler.seen)
    return [max(i - began[n] for n in step) for i, step in enumerate(run.learner.by_step)]


@given(WORLDS, st.integers(0, 4), st.integers(1, 5))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_lag_bound_order_and_ledger_hold(world: World, max_lag: int, prompts: int) -> None:
    steps = 8
    run, _ = run_of(world, max_lag, prompts, steps)
    assert max(lags_of(run)) <= max_lag
    assert lags_of(run) == [r["rl/lag_max"] for r in run.records]
    # Trained in admission order; only zero-variance and failed groups are missing.
    order = [number for numbers in run.learner.by_step for number in numbers]
    fates = [world.fate(number) for number in range(order[-1] + 1)]
    assert order == [number for number, fate in enumerate(fates) if fate == "good"]
    assert [len(numbers) for numbers in run.learner.by_step] == [prompts] * steps
    # The ledger balances.
    ledger = run.state.ledger
    ledger.check(in_flight=0)
    assert (ledger.trained, ledger.failed, ledger.zero_variance, ledger.surplus) == (
        *(fates.count(fate) for fate in ("good", "failed", "zero_variance")),
        0,
    )
    assert sum(r["rl/groups_zero_variance"] for r in run.records) == ledger.zero_variance
    assert sum(r["rl/groups_failed"] for r in run.records) == ledger.failed
    # The window bounds the groups in flight.
    assert run.sampler.most_running <= (max_lag + 1) * prompts


@given(WORLDS, st.integers(0, 4), st.integers(1, 5), st.sampled_from([0.25, 1.0]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_over_sampling_preserves_the_bound_and_the_order(
    world: World, max_lag: int, prompts: int, oversample: float
) -> None:
    run, _ = run_of(world, max_lag, prompts, 8, oversample)
    assert max(lags_of(run)) <= max_lag
    order = [number for numbers in run.learner.by_step for number in numbers]
    assert order == sorted(set(order))
    assert all(world.fate(number) == "good" for number in order)
    # Every group missing up to the last one is counted with its reason.
    missing = set(range(order[-1])) - set(order)
    ledger = run.state.ledger
    assert len(missing) <= ledger.zero_variance + ledger.failed + ledger.surplus
    assert len(order) == ledger.trained == 8 * prompts


def test_the_lag_bound_is_tight() -> None:
    lags = []
    for max_lag in (0, 1, 2, 4):
        run, _ = run_of(World(3, sample_s=1.0, train_s=0.1), max_lag, prompts=4, steps=12)
        lags.append(max(r["rl/lag_max"] for r in run.records))
    assert lags == [0.0, 1.0, 2.0, 4.0]


def test_a_wider_window_hides_slow_groups() -> None:
    times = [
        run_of(World(5, train_s=1.0), max_lag, prompts=4, steps=20)[1] for max_lag in (0, 1, 4)
    ]
    assert times[0] > 1.2 * times[1] > 1.2 * times[2]
