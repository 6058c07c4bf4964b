"""The RL loop against fakes: it learns, keeps its books, bounds the lag, and never waits for the
dead.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from bard_ray.errors import InfrastructureError, InvariantError
from bard_ray.records import Outcome
from bard_ray.rl.admission import AdmissionWindow, Ledger
from bard_ray.rl.loop import RLState
from tests.loop.fakes import FakeLearner, FakeSampler, FakeVerifier, Run


@pytest.mark.parametrize("max_lag", [0, 2])
async def test_the_policy_learns_to_meet_the_budget(max_lag):
    run = await Run(max_lag=max_lag, steps=30, prompts=4, group_size=16, lr=0.3).go()
    early, late = (
        np.mean([r["rl/reward"] for r in part]) for part in (run.records[:5], run.records[-5:])
    )
    assert early < 0.4
    assert late > 0.6
    assert int(run.learner.logits.argmax()) + 1 == run.budget


async def test_synchronous_mode_repeats_itself_whatever_the_latencies():
    def latencies(seed):
        generator = np.random.default_rng(seed)
        return lambda request: float(generator.random()) * 0.003

    runs = [
        await Run(steps=6, sampler=FakeSampler(latency=latencies(seed))).go() for seed in (1, 2)
    ]
    assert np.array_equal(runs[0].learner.logits, runs[1].learner.logits)
    traces = [[r["rl/reward"] for r in run.records] for run in runs]
    assert traces[0] == traces[1]
    assert [r["rl/lag_max"] for r in runs[0].records] == [0.0] * 6


async def test_slow_groups_are_waited_for_and_never_dropped():
    run = await Run(
        max_lag=2,
        steps=6,
        sampler=FakeSampler(latency=lambda r: 0.05 if r.number % 3 == 0 else 0.0),
    ).go()
    trained = run.state.ledger.trained
    assert trained == 12
    # Every admitted number up to the last consumed one was trained on or counted:
    # none went missing for being slow.
    assert run.state.ledger.consumed == trained + run.state.ledger.flat
    assert run.state.ledger.failed == 0


async def test_flat_groups_are_counted_and_replaced():
    class Hard(FakeVerifier):
        async def grade(self, items):
            wrong = items[0].gold == "right" and self.graded % 8 == 0
            self.graded += len(items)
            outcome = Outcome.WRONG if wrong else Outcome.CORRECT
            return await FakeVerifier(lambda item: outcome).grade(items)

    run = await Run(steps=4, verifier=Hard()).go()
    assert run.state.ledger.flat >= 4
    assert run.state.ledger.trained == 8
    assert [len(batch) for batch in run.learner.batches] == [8] * 4


async def test_failed_groups_are_counted_and_replaced():
    sampler = FakeSampler(fail=lambda r: "its worker was lost" if r.number in {1, 4} else "")
    run = await Run(steps=4, sampler=sampler).go()
    assert run.state.ledger.failed == 2
    assert run.state.ledger.trained == 8


async def test_an_answer_that_cannot_be_graded_is_graded_again_and_never_becomes_a_zero():
    broken = iter([Outcome.BROKEN] * 2)
    run = await Run(steps=2, verifier=FakeVerifier(lambda item: next(broken, Outcome.CORRECT))).go()
    assert run.state.ledger.failed == 0
    assert sum(r["verdict/broken"] for r in run.records) == 0


async def test_a_group_whose_grading_stays_broken_is_failed():
    calls = {"n": 0}

    def outcome(item):
        calls["n"] += 1
        # Broken: both groups' first rollouts, three times.
        return Outcome.BROKEN if calls["n"] <= 6 else Outcome.CORRECT

    run = await Run(steps=2, prompts=1, group_size=2, verifier=FakeVerifier(outcome)).go()
    assert run.state.ledger.failed >= 1
    assert run.state.ledger.trained == 2


async def test_a_run_without_any_reward_variance_stops_with_the_reason():
    with pytest.raises(InvariantError, match="equal rewards"):
        await Run(verifier=FakeVerifier(lambda item: Outcome.WRONG)).go()


@pytest.mark.parametrize("part", ["sampler", "verifier", "learner"])
async def test_the_loop_ends_at_once_when_a_role_dies(part):
    async def dies(*_args, **_kwargs):
        await asyncio.sleep(0.01)
        raise InfrastructureError(f"{part} died")

    async def dies_streaming(*_args, **_kwargs):
        await dies()
        yield

    run = Run(max_lag=1, steps=50)
    method = {"sampler": "sample", "verifier": "grade", "learner": "step"}[part]
    setattr(getattr(run, part), method, dies_streaming if part == "sampler" else dies)
    with pytest.raises(InfrastructureError, match=f"{part} died"):
        await asyncio.wait_for(run.go(), 5)


async def test_a_restart_asks_for_the_numbers_that_were_not_consumed():
    whole = await Run(steps=6).go()
    first = await Run(steps=3).go()
    state = RLState(step=3, ledger=Ledger(**vars(first.state.ledger)))
    rest = await Run(steps=6, state=state, learner=FakeLearner(logits=first.learner.logits)).go()
    assert np.allclose(rest.learner.logits, whole.learner.logits)
    assert min(number for number, _ in rest.sampler.seen) == first.state.ledger.consumed


def test_the_window_refuses_slots_it_never_gave():
    window = AdmissionWindow(4)
    assert list(window.take(3)) == [0, 1, 2]
    assert list(window.take(9)) == [3]
    assert list(window.take(1)) == []
    window.release(4)
    with pytest.raises(InvariantError, match="5 free slots"):
        window.release(1)


def test_the_ledger_finds_a_lost_group():
    ledger = Ledger(admitted=10, trained=6, failed=1, flat=1)
    ledger.check(in_flight=2)
    with pytest.raises(InvariantError, match="does not balance"):
        ledger.check(in_flight=1)
