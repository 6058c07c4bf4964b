"""The RL loop against fakes: learning, ledger, lag bound, failures of roles, resuming."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bard_ray.config.schema import RewardConfig, RLConfig
from bard_ray.errors import InfrastructureError, InvariantError
from bard_ray.metrics import BINS, Metric, MetricsWriter
from bard_ray.records import Outcome, TokenBudget, Verdict
from bard_ray.rewards.parts import GroupParts
from bard_ray.rewards.reward import REWARDS, RewardValues
from bard_ray.rewards.stats import BatchStats
from bard_ray.rewards.trial import reward_problems
from bard_ray.rl.admission import AdmissionWindow, Ledger, window_slots
from bard_ray.rl.plugin_metrics import declared_metrics
from bard_ray.rl.state import RLState
from tests.loop.fakes import FakeLearner, FakeSampler, FakeVerifier, LoopRun


@pytest.mark.parametrize("max_lag", [0, 2])
async def test_the_policy_learns_to_meet_the_budget(max_lag):
    run = await LoopRun(max_lag=max_lag, steps=30, prompts=4, group_size=16, lr=0.3).go()
    early, late = (
        np.mean([r["rl/reward"] for r in part]) for part in (run.records[:5], run.records[-5:])
    )
    assert early < 0.4
    assert late > 0.6
    assert int(run.learner.logits.argmax()) + 1 == run.budget


async def test_synchronous_mode_is_reproducible_whatever_the_latencies():
    def latencies(seed):
        generator = np.random.default_rng(seed)
        return lambda request: float(generator.random()) * 0.003

    runs = [
        await LoopRun(steps=6, sampler=FakeSampler(latency=latencies(seed))).go() for seed in (1, 2)
    ]
    assert np.array_equal(runs[0].learner.logits, runs[1].learner.logits)
    traces = [[r["rl/reward"] for r in run.records] for run in runs]
    assert traces[0] == traces[1]
    assert [r["rl/lag_max"] for r in runs[0].records] == [0.0] * 6


async def test_the_learner_continues_during_weight_transfers():
    async def seconds(max_lag):
        loop = asyncio.get_running_loop()
        run = LoopRun(
            max_lag=max_lag,
            steps=10,
            sampler=FakeSampler(transfer_s=0.05),
            learner=FakeLearner(latency=0.05),
        )
        started = loop.time()
        await run.go()
        assert run.sampler.version == 10  # the last version arrived before the loop ended
        assert sum("time/transfer_s" in r for r in run.records) >= 8
        return loop.time() - started

    sequential, overlapped = await seconds(0), await seconds(2)
    assert sequential > 10 * 0.1 - 0.05
    assert overlapped < 0.9 * sequential


async def test_a_transfer_that_fails_ends_the_loop():
    class FailingTransfer(FakeSampler):
        async def publish(self, weights, version):
            if version == 3:
                raise InfrastructureError("transfer failed")
            return await super().publish(weights, version)

    with pytest.raises(InfrastructureError, match="transfer failed"):
        await asyncio.wait_for(LoopRun(max_lag=1, steps=9, sampler=FailingTransfer()).go(), 5)


@pytest.mark.parametrize("max_lag", [0, 1])
async def test_over_sampling_preserves_the_bound_and_discards_surplus_groups(max_lag):
    sampler = FakeSampler(latency=lambda r: 0.002 * (r.number % 5), transfer_s=0.005)
    run = await LoopRun(max_lag=max_lag, oversample=1.0, steps=12, sampler=sampler).go()
    ledger = run.state.ledger
    assert ledger.trained == 24
    assert ledger.surplus > 0
    assert sum(r["rl/groups_surplus"] for r in run.records) <= ledger.surplus
    assert max(r["rl/lag_max"] for r in run.records) <= max_lag
    ledger.check(ledger.admitted - ledger.consumed)


async def test_over_sampling_is_reproducible_when_synchronous():
    def latencies(seed):
        generator = np.random.default_rng(seed)
        return lambda request: float(generator.random()) * 0.003

    def outcome_of():
        return FakeVerifier(lambda item: Outcome.CORRECT)

    runs = [
        await LoopRun(
            steps=8,
            oversample=0.5,
            prompts=4,
            group_size=2,
            sampler=FakeSampler(latency=latencies(seed)),
            verifier=outcome_of(),
        ).go()
        for seed in (1, 2)
    ]
    assert np.array_equal(runs[0].learner.logits, runs[1].learner.logits)
    # With two answers per group, a third of the groups has zero variance, so there is surplus.
    assert runs[0].state.ledger.zero_variance > 4
    assert runs[0].state.ledger.surplus == runs[1].state.ledger.surplus > 0


async def test_over_sampling_trains_on_long_and_short_answers_alike():
    sampler = FakeSampler(latency=lambda r: 0.004 if r.number % 3 == 0 else 0.0)
    run = await LoopRun(
        max_lag=1, oversample=0.5, prompts=4, steps=60, lr=0.0, sampler=sampler
    ).go()
    assert run.state.ledger.surplus > 20
    trained = run.learner.numbers
    assert trained == sorted(trained)
    # A third of all groups is slow. Discarding late groups would leave almost none of them.
    assert np.mean([n % 3 == 0 for n in trained]) == pytest.approx(1 / 3, abs=0.06)


async def test_slow_groups_are_never_dropped():
    run = await LoopRun(
        max_lag=2,
        steps=6,
        sampler=FakeSampler(latency=lambda r: 0.05 if r.number % 3 == 0 else 0.0),
    ).go()
    trained = run.state.ledger.trained
    assert trained == 12
    # Every admitted number up to the last consumed one was trained on or counted; none was dropped
    # for being slow.
    assert run.state.ledger.consumed == trained + run.state.ledger.zero_variance
    assert run.state.ledger.failed == 0


async def test_zero_variance_groups_are_counted_and_replaced():
    class Hard(FakeVerifier):
        async def grade(self, items):
            wrong = items[0].gold == "right" and self.graded % 8 == 0
            self.graded += len(items)
            outcome = Outcome.WRONG if wrong else Outcome.CORRECT
            return await FakeVerifier(lambda item: outcome).grade(items)

    run = await LoopRun(steps=4, verifier=Hard()).go()
    assert run.state.ledger.zero_variance >= 4
    assert run.state.ledger.trained == 8
    zero_variance = sum(r[f"bins/zero_variance_{name}"] for r in run.records for name in BINS)
    assert zero_variance == sum(r["rl/groups_zero_variance"] for r in run.records) >= 4
    assert sum(r[f"bins/trained_{name}"] for r in run.records for name in BINS) == 8
    assert [len(batch) for batch in run.learner.batches] == [8] * 4


async def test_failed_groups_are_counted_and_replaced():
    sampler = FakeSampler(fail=lambda r: "its worker was lost" if r.number in {1, 4} else "")
    run = await LoopRun(steps=4, sampler=sampler).go()
    assert run.state.ledger.failed == 2
    assert run.state.ledger.trained == 8


async def test_an_answer_that_cannot_be_graded_is_graded_again_and_gets_no_zero_reward():
    broken = iter([Outcome.BROKEN] * 2)
    run = await LoopRun(
        steps=2, verifier=FakeVerifier(lambda item: next(broken, Outcome.CORRECT))
    ).go()
    assert run.state.ledger.failed == 0
    assert sum(r["verdict/broken"] for r in run.records) == 2


async def test_a_group_whose_grading_stays_broken_fails():
    calls = {"n": 0}

    def outcome(item):
        calls["n"] += 1
        # Broken: both groups' first rollouts, three times.
        return Outcome.BROKEN if calls["n"] <= 6 else Outcome.CORRECT

    run = await LoopRun(steps=2, prompts=1, group_size=2, verifier=FakeVerifier(outcome)).go()
    assert run.state.ledger.failed >= 1
    assert run.state.ledger.trained == 2


async def test_a_run_without_any_reward_variance_stops_with_the_reason():
    with pytest.raises(InvariantError, match="equal rewards"):
        await LoopRun(verifier=FakeVerifier(lambda item: Outcome.WRONG)).go()


@pytest.mark.parametrize("part", ["sampler", "verifier", "learner"])
async def test_the_loop_ends_when_a_role_fails(part):
    async def fails(*_args, **_kwargs):
        await asyncio.sleep(0.01)
        raise InfrastructureError(f"{part} failed")

    async def fails_streaming(*_args, **_kwargs):
        await fails()
        yield

    run = LoopRun(max_lag=1, steps=50)
    method = {"sampler": "sample", "verifier": "grade", "learner": "step"}[part]
    setattr(getattr(run, part), method, fails_streaming if part == "sampler" else fails)
    with pytest.raises(InfrastructureError, match=f"{part} failed"):
        await asyncio.wait_for(run.go(), 5)


@given(
    max_lag=st.integers(0, 3),
    prompts=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    learner_ms=st.integers(0, 2),
    transfer_ms=st.integers(0, 3),
    zero_variance_share=st.sampled_from([0.0, 0.3]),
    oversample=st.sampled_from([0.0, 0.5]),
)
@settings(max_examples=40, deadline=None)
def test_lag_never_exceeds_its_bound(
    max_lag, prompts, seed, learner_ms, transfer_ms, zero_variance_share, oversample
):
    generator = np.random.default_rng(seed)

    def latency(request):
        return float(generator.exponential(0.001)) if generator.random() < 0.8 else 0.01

    def outcome(item):
        return Outcome.CORRECT

    sampler = FakeSampler(
        latency=latency,
        fail=lambda r: "unlucky" if generator.random() < zero_variance_share else "",
        transfer_s=transfer_ms / 1000,
    )
    run = LoopRun(
        max_lag=max_lag,
        oversample=oversample,
        prompts=prompts,
        steps=8,
        sampler=sampler,
        verifier=FakeVerifier(outcome),
        learner=FakeLearner(latency=learner_ms / 1000),
    )
    asyncio.run(run.go())  # the loop raises if a token exceeds the bound
    assert max(r["rl/lag_max"] for r in run.records) <= max_lag
    slots = window_slots(max_lag, prompts, oversample)
    assert all(r["rl/groups_in_flight"] <= 4 * slots for r in run.records)
    assert run.learner.numbers == sorted(run.learner.numbers)
    if not oversample:
        run.state.ledger.check(0)


async def test_a_resumed_run_starts_at_the_first_unconsumed_number():
    whole = await LoopRun(steps=6).go()
    first = await LoopRun(steps=3).go()
    state = RLState(step=3, ledger=Ledger(**vars(first.state.ledger)))
    rest = await LoopRun(
        steps=6, state=state, learner=FakeLearner(logits=first.learner.logits)
    ).go()
    assert np.allclose(rest.learner.logits, whole.learner.logits)
    assert min(number for number, _ in rest.sampler.seen) == first.state.ledger.consumed


class SometimesWrong(FakeVerifier):
    """Wrong for a share of the questions and all of their rollouts: zero-variance groups."""

    async def grade(self, items):
        self.graded += 1
        outcome = Outcome.WRONG if self.graded % 3 == 0 else Outcome.CORRECT
        return [Verdict(outcome) for _ in items]


async def test_a_reward_that_reads_statistics_is_reproducible_across_a_resume():
    # Balanced for three steps, then plain: both the statistics and the step number matter.
    reward = RewardConfig("autothink", {"balance_steps": 3, "plain_steps": 9})
    whole = await LoopRun(steps=6, reward=reward).go()
    first = await LoopRun(steps=2, reward=reward).go()
    saved = json.loads(json.dumps(asdict(first.state.stats)))
    state = RLState(2, ledger=Ledger(**vars(first.state.ledger)), stats=BatchStats.from_json(saved))
    learner = FakeLearner(logits=first.learner.logits)
    rest = await LoopRun(steps=6, reward=reward, state=state, learner=learner).go()
    assert np.array_equal(rest.learner.logits, whole.learner.logits)
    assert rest.state.stats == whole.state.stats
    without = RLState(2, ledger=Ledger(**vars(first.state.ledger)))
    learner = FakeLearner(logits=first.learner.logits)
    forgot = await LoopRun(steps=6, reward=reward, state=without, learner=learner).go()
    assert not np.array_equal(forgot.learner.logits, whole.learner.logits)


@dataclass(frozen=True)
class ThinkingOnly:
    """A reward with equal values for all rollouts; only the values of their thinking differ."""

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        think_GS = parts.fidelity_G[:, None]
        return RewardValues(parts.accuracy_G, segments={"think": think_GS})


@pytest.mark.parametrize("name", [*REWARDS.names(), f"{__name__}:ThinkingOnly"])
async def test_every_reward_gives_usable_advantages(name):
    run = await LoopRun(steps=3, group_size=8, reward=RewardConfig(name)).go()
    assert run.state.ledger.trained == 6
    advantages = [
        sequence.advantages_T
        for batch in run.learner.batches
        for sequence in batch
        if sequence.advantages_T is not None
    ]
    assert len(advantages) == 48
    assert all(np.isfinite(a_T).all() for a_T in advantages)
    assert any(a_T[2] != 0 for a_T in advantages)
    if name.endswith("ThinkingOnly"):
        assert {float(a_T[-1]) for a_T in advantages} == {0.0}, "the last token is the answer"


@dataclass(frozen=True)
class WithMetrics:
    """A reward with its own metrics: one for every rollout, one for right rollouts only."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "tokens_left": Metric("tokens", "rollout mean", "budget minus charged tokens"),
        "only_right": Metric("share", "rollout mean", "1, of right rollouts"),
    }

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        right_G = np.where(parts.accuracy_G > 0, 1.0, np.nan)
        metrics = {"tokens_left": parts.budget_tokens_G - parts.tokens_G, "only_right": right_G}
        return RewardValues(parts.fidelity_G, metrics=metrics)


async def test_a_reward_writes_its_own_metrics(tmp_path):
    config = RewardConfig(f"{__name__}:WithMetrics")
    run = await LoopRun(steps=3, reward=config).go()
    left = [r["reward/tokens_left"] for r in run.records]
    assert left == [run.budget - r["rl/thinking_tokens"] for r in run.records]
    assert [r["reward/only_right"] for r in run.records] == [1.0] * 3
    declared = declared_metrics(RLConfig(reward=config))
    assert declared["reward/tokens_left"].unit == "tokens"
    with MetricsWriter(tmp_path, declared) as writer:
        writer.write("rl", 1, {"reward/tokens_left": left[0]})
        with pytest.raises(InvariantError, match="reward/other"):
            writer.write("rl", 2, {"reward/other": 1.0})


@dataclass(frozen=True)
class Undeclared:
    """A reward that reports a metric without declaring it."""

    def __call__(self, parts: GroupParts, stats: BatchStats) -> RewardValues:
        return RewardValues(parts.accuracy_G, metrics={"surprise": parts.tokens_G})


def test_an_undeclared_metric_is_refused_before_a_run():
    problems = list(reward_problems(RewardConfig(f"{__name__}:Undeclared"), [TokenBudget(5)]))
    assert "'surprise', which is not in its METRICS" in str(problems[0])


async def test_statistics_do_not_depend_on_latencies():
    reward = RewardConfig("autothink", {"balance_steps": 9, "plain_steps": 9})
    samplers = (FakeSampler(), FakeSampler(latency=lambda r: 0.004 * (r.number % 2)))
    even, uneven = [
        await LoopRun(steps=4, reward=reward, sampler=sampler).go() for sampler in samplers
    ]
    assert even.state.stats == uneven.state.stats
    assert np.array_equal(even.learner.logits, uneven.learner.logits)


async def test_statistics_count_zero_variance_groups_too():
    run = await LoopRun(steps=4, verifier=SometimesWrong()).go()
    assert run.state.ledger.zero_variance > 0
    assert run.state.stats.step == 4
    assert run.state.stats.overall is not None
    assert run.state.stats.overall.accuracy < 1, (
        "the wrong answers were all in zero-variance groups"
    )


async def test_groups_in_flight_keep_their_budgets_after_a_resume():
    first = await LoopRun(max_lag=2, steps=3).go()
    in_flight = range(first.state.ledger.consumed, first.state.ledger.admitted)
    assert sorted(first.state.asked) == list(in_flight)
    ledger = Ledger(**vars(first.state.ledger))
    ledger.admitted = ledger.consumed
    other = (TokenBudget(3),) * 4  # what an adaptive sampler would have drawn before
    state = RLState(step=3, ledger=ledger, asked=dict.fromkeys(first.state.asked, other))
    rest = await LoopRun(max_lag=2, steps=6, state=state).go()
    assert all(rest.sampler.budgets[n] == other for n in in_flight)
    assert rest.sampler.budgets[in_flight.stop] == (TokenBudget(5),) * 4


def test_the_window_refuses_slots_that_were_not_taken():
    window = AdmissionWindow(4)
    assert list(window.take(3)) == [0, 1, 2]
    assert list(window.take(9)) == [3]
    assert list(window.take(1)) == []
    window.release(4)
    with pytest.raises(InvariantError, match="5 free slots"):
        window.release(1)


def test_the_ledger_detects_a_lost_group():
    ledger = Ledger(admitted=10, trained=6, failed=1, zero_variance=1)
    ledger.check(in_flight=2)
    with pytest.raises(InvariantError, match="does not balance"):
        ledger.check(in_flight=1)
