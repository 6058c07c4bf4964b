"""The simulated loop against cases of known result."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from bard_ray.sim.engine import EngineSim
from bard_ray.sim.events import Events, LeastLoaded, SimClock, Station
from bard_ray.sim.fit import fit_costs
from bard_ray.sim.loop import simulate
from bard_ray.sim.model import (
    ByBudget,
    Contention,
    Empirical,
    EngineTimes,
    GroupWork,
    LearnerTimes,
    LoopSpec,
    PathTimes,
    System,
)
from bard_ray.sim.study import (
    Hardware,
    Scenario,
    Split,
    StudentModel,
    StudyWorkload,
    run_point,
)


@dataclass(frozen=True)
class Same:
    """The same work for every number; every n-th group has zero variance, if n is set."""

    work: GroupWork
    zero_variance_every: int = 0

    def group(self, number: int) -> GroupWork:
        zero_variance = self.zero_variance_every > 0 and number % self.zero_variance_every == 0
        return replace(self.work, zero_variance=zero_variance)


UNIT = EngineTimes(step_s=1.0, sequence_s=0.0)  # one second a step, whatever the batch
TEN = Same(GroupWork((10, 10), 0))


def test_synchronous_step_is_generation_plus_training_plus_publishing() -> None:
    """Longest rollout 5 steps of 1 s, learner 10 s, gather 0.5 s, load 0.25 s."""
    system = System(replace(UNIT, load_s=0.25), LearnerTimes(10.0, 0.0, gather_s=0.5))
    result = simulate(system, LoopSpec(4, 1, 0, overlap_publish=False), Same(GroupWork((3, 5), 0)))
    assert [s.end_s for s in result.steps] == pytest.approx([15.75, 31.5, 47.25, 63.0])
    assert result.steps[1].wait_s == pytest.approx(5.0)
    assert result.steps[1].train_s == pytest.approx(10.0)
    assert result.steps[1].publish_s == pytest.approx(0.75)


def test_worked_example_by_hand() -> None:
    """Two prompts a step, one rollout of 4 tokens each, room for two in the engine, lag 1.

    A step of two sequences takes 1 + 2 x 0.5 = 2 s. Groups 0-3 are admitted at 0: 0 and 1 run from
    0 to 8, 2 and 3 from 8 to 16. The learner takes 3 s, from 8 to 11, and the weights are loaded at
    the next boundary between two steps, 12: step 0 ends, and 4 and 5 are admitted. Step 1 waits
    for 16, trains until 19 and loads at 20. 4 and 5 run from 16 to 24; nothing more is admitted, so
    the engine is idle when step 2 has trained at 27.
    """
    system = System(EngineTimes(1.0, 0.5, max_num_seqs=2), LearnerTimes(3.0, 0.0))
    result = simulate(system, LoopSpec(3, 2, 1, overlap_publish=False), Same(GroupWork((4,), 0)))
    assert [s.end_s for s in result.steps] == pytest.approx([12.0, 20.0, 27.0])
    assert [s.wait_s for s in result.steps] == pytest.approx([8.0, 4.0, 4.0])
    assert [s.lag for s in result.steps] == [0, 1, 1]


def test_generation_bound_step_is_tokens_over_throughput() -> None:
    """4 sequences at 1 token/s each; a step needs 2 groups x 2 x 10 = 40 tokens: 10 s."""
    system = System(replace(UNIT, max_num_seqs=4), LearnerTimes(3.0, 0.0))
    steady = simulate(system, LoopSpec(30, 2, 2), TEN).steady(5, 3)
    assert steady["step_s"] == pytest.approx(10.0)
    assert steady["engine_busy_share"] == pytest.approx(1.0)
    assert steady["samples_per_s"] == pytest.approx(0.4)
    assert steady["tokens_per_s"] == pytest.approx(4.0)


def test_learner_bound_step_is_the_learner() -> None:
    system = System(replace(UNIT, max_num_seqs=4), LearnerTimes(5.0, 0.5, ranks=2, gather_s=1.0))
    steady = simulate(system, LoopSpec(30, 2, 2), TEN).steady(5, 3)
    # 5 s + 0.5 s x 40 tokens on 2 ranks, and 1 s of gathering.
    assert steady["step_s"] == pytest.approx(16.0)
    assert steady["wait_s"] == pytest.approx(0.0)


def test_overlapped_publish_hides_the_broadcast_only() -> None:
    path = PathTimes(broadcast_s=4.0)
    system = System(UNIT, LearnerTimes(15.0, 0.0, gather_s=1.0), path)
    spec = LoopSpec(30, 2, 3, overlap_publish=False)
    assert simulate(system, spec, TEN).steady(5, 4)["step_s"] == pytest.approx(20.0)
    hidden = simulate(system, replace(spec, overlap_publish=True), TEN)
    assert hidden.steady(5, 4)["step_s"] == pytest.approx(16.0)
    assert max(s.lag for s in hidden.steps) <= 3


def test_asynchronous_step_is_the_longer_of_the_two() -> None:
    """One worker generates a step's tokens in 10 s; learners of 2, 9 and 30 s."""
    for learner_s in (2.0, 9.0, 30.0):
        system = System(replace(UNIT, max_num_seqs=4), LearnerTimes(learner_s, 0.0))
        steady = simulate(system, LoopSpec(40, 2, 3), TEN).steady(8, 4)
        assert steady["step_s"] == pytest.approx(max(10.0, learner_s))
        sync = simulate(system, LoopSpec(8, 2, 0), TEN).steady(1, 1)
        assert sync["step_s"] == pytest.approx(10.0 + learner_s)


@pytest.mark.parametrize("max_lag", [0, 1, 3])
@pytest.mark.parametrize("overlap", [False, True])
def test_lag_stays_within_the_bound_and_the_ledger_balances(max_lag: int, overlap: bool) -> None:
    work = ByBudget([4, 30, 200], 4, 0.6, 0.4, 8, 3, 400, seed=max_lag)
    path = PathTimes(0.01, 0.02, 0, 0.01, 0.01, 0, 0.3, 0, workers=3, verifiers=2, references=1)
    engine = EngineTimes(0.01, 0.001, max_num_seqs=6, load_s=0.1)
    system = System(engine, LearnerTimes(0.5, 0.001), path)
    result = simulate(system, LoopSpec(25, 5, max_lag, overlap), work)
    ledger = result.ledger
    assert max(s.lag for s in result.steps) <= max_lag
    assert ledger.trained == 125
    assert ledger.zero_variance > 0
    assert ledger.admitted == ledger.trained + ledger.zero_variance + result.in_flight
    if max_lag:
        assert max(s.lag for s in result.steps) == max_lag


def test_zero_variance_groups_are_replaced_while_the_learner_waits() -> None:
    """Synchronous, every second group with zero variance: a batch of 2 takes waves of 2, 1, 1."""
    system = System(UNIT, LearnerTimes(1.0, 0.0))
    result = simulate(system, LoopSpec(1, 2, 0), Same(GroupWork((10,), 0), zero_variance_every=2))
    # Groups 0 and 2 have zero variance, 1 and 3 are trained on: three waves of 10 s.
    assert result.steps[0].wait_s == pytest.approx(30.0)
    assert result.ledger.zero_variance == 2


def test_engine_closed_form_is_the_sum_over_its_steps() -> None:
    """Compared with single steps: cache-dependent times, arrivals between boundaries, prefill."""
    times = EngineTimes(0.01, 0.002, 1e-4, request_s=0.003, prompt_token_s=1e-4, max_num_seqs=3)
    works = [GroupWork((7, 3), 5), GroupWork((9,), 2), GroupWork((4, 4), 6)]
    arrivals = [0.0, 0.031, 0.15]
    events = Events()
    ended: dict[int, float] = {}
    engine = EngineSim(times, events, lambda number: ended.update({number: events.now}))
    for number, (work, at) in enumerate(zip(works, arrivals, strict=True)):
        events.at(at, lambda n=number, w=work: engine.submit(n, w))  # type: ignore[misc]
    while events.run_one():
        pass
    assert ended == pytest.approx(_walk(times, works, arrivals))
    assert engine.tokens == 27


def _walk(times: EngineTimes, works: list[GroupWork], arrivals: list[float]) -> dict[int, float]:
    """The same engine one step at a time."""
    waiting: list[list[int]] = []  # group, left, cached, prefill
    running: list[list[int]] = []
    ended: dict[int, float] = {}
    now, number = 0.0, 0
    while number < len(works) or waiting or running:
        while number < len(works) and arrivals[number] <= now:
            prompt = works[number].prompt_tokens
            for i, n in enumerate(works[number].lengths_G):
                waiting.append([number, n, prompt, 0 if i else prompt])
            number += 1
        while waiting and len(running) < times.max_num_seqs:
            running.append(waiting.pop(0))
            now += times.request_s + running[-1][3] * times.prompt_token_s
        if not running:
            now = arrivals[number]
            continue
        cached = sum(s[2] for s in running)
        now += times.step_s + len(running) * times.sequence_s + cached * times.cached_token_s
        for s in running:
            s[1], s[2] = s[1] - 1, s[2] + 1
            if s[1] == 0:
                ended[s[0]] = now
        running = [s for s in running if s[1]]
    return ended


def test_engine_preempts_the_newest_when_the_cache_is_full() -> None:
    """Room for 12 tokens: two sequences of 10 do not fit, so the second runs after the first.

    Both run 6 steps. The second loses its 6 tokens, and has to prefill them at 0.5 s each once the
    first is done at 10 s: 3 s, then the 4 tokens it lacks.
    """
    times = EngineTimes(1.0, 0.0, prompt_token_s=0.5, kv_tokens=12)
    events = Events()
    ended: dict[int, float] = {}
    engine = EngineSim(times, events, lambda number: ended.update({number: events.now}))
    engine.submit(0, GroupWork((10,), 0))
    engine.submit(1, GroupWork((10,), 0))
    while events.run_one():
        pass
    assert ended == pytest.approx({0: 10.0, 1: 17.0})
    assert engine.preempted == 1
    assert engine.tokens == 20


def test_roles_that_share_cores_slow_each_other_down() -> None:
    """Learner: 10 s alone, half as fast while the engine runs, so 8 s of engine cost it 4 s."""
    contention = Contention(learner=(1.0, 2.0, 2.0))
    path = PathTimes()
    system = System(UNIT, LearnerTimes(10.0, 0.0), path, contention)
    work = Same(GroupWork((8,), 0))
    result = simulate(system, LoopSpec(2, 1, 1), work)
    # Both slots of the window are generated from 0 to 8; the learner begins at 8 on idle cores.
    assert result.steps[0].end_s == pytest.approx(18.0)
    # Step 1 begins at 18; nothing more is admitted, as the run needs no more.
    assert result.steps[1].end_s == pytest.approx(28.0)
    longer = simulate(system, LoopSpec(3, 1, 1), work)
    # Group 2 enters at 18 and runs to 26: the learner does 4 s of work until then, 6 s after it.
    assert longer.steps[1].end_s == pytest.approx(32.0)


def test_a_slower_clock_stretches_the_remaining_work() -> None:
    clock = SimClock()
    assert clock.time_of(10.0) == 10.0
    clock.set_rate(4.0, 0.5)
    assert clock.work_at(6.0) == 5.0
    assert clock.time_of(10.0) == 16.0


def test_a_station_serves_in_order() -> None:
    events, ends = Events(), []
    station = Station(events)
    for work in (2.0, 3.0):
        station.submit(work, lambda: ends.append(events.now))
    while events.run_one():
        pass
    assert ends == [2.0, 5.0]
    assert station.busy_s == 5.0


def test_placement_takes_the_least_loaded_and_the_first_of_equals() -> None:
    balance = LeastLoaded(3)
    assert [balance.take() for _ in range(4)] == [0, 1, 2, 0]
    balance.give_back(2)
    assert [balance.take() for _ in range(2)] == [2, 1]


def test_costs_are_recovered_despite_an_outlier() -> None:
    rng = np.random.default_rng(0)
    rows = rng.uniform(1, 100, (40, 2))
    seconds = rows @ np.array([0.01, 0.002])
    seconds[3] *= 5
    assert fit_costs(rows.tolist(), seconds.tolist()) == pytest.approx([0.01, 0.002])


def test_a_cost_that_would_be_negative_is_zero() -> None:
    rows = [[1.0, n] for n in (1.0, 2.0, 4.0, 8.0)]
    costs = fit_costs(rows, [n - 0.1 for n in (1.0, 2.0, 4.0, 8.0)])
    assert costs[0] == 0.0
    assert costs[1] == pytest.approx(0.95, rel=0.05)


def test_lengths_follow_the_budget() -> None:
    work = ByBudget([1000], 4000, 0.3, 0.0, 200, 50, 10_000)
    lengths = np.array(work.group(0).lengths_G)
    assert lengths.mean() == pytest.approx(1050, rel=0.02)
    assert np.log(lengths - 50.0).std() == pytest.approx(0.3, rel=0.05)
    assert work.group(0) == work.group(0)


def test_measured_groups_are_drawn_by_number() -> None:
    groups = [GroupWork((n,), 0) for n in range(5)]
    drawn = [Empirical(groups, 1).group(n).lengths_G[0] for n in range(200)]
    assert set(drawn) == set(range(5))
    assert drawn == [Empirical(groups, 1).group(n).lengths_G[0] for n in range(200)]


def test_sizing_rules_by_hand() -> None:
    """All answers have 1,000 tokens and one budget; the closed forms are computed by hand."""
    hardware = Hardware(
        flops=1e15,
        memory_bytes=64e9,
        memory_bytes_s=2e12,
        memory_share=1.0,
        decode_efficiency=0.5,
        engine_step_s=0.0,
        engine_sequence_s=0.0,
        prefill_utilization=0.5,
        learner_utilization=0.6,
    )
    student = StudentModel(params=1e10, kv_bytes=1e5)
    work = StudyWorkload((900,), 4, 0.0, 0.5, 0, 100, 4000)
    scenario = Scenario(student, hardware, work)
    # 64 GB - 20 GB of weights - 4 GB: 400,000 tokens; a running answer has 500: 680 fill 0.85.
    assert scenario.kv_tokens() == pytest.approx(400_000)
    assert scenario.max_num_seqs() == 680
    engine, learner, reference = scenario.rates()
    # Step: 20 ms of weights, 680 x (40 us + 500 x 0.1 us) = 61.2 ms.
    assert engine == pytest.approx(680 / 0.0812)
    assert learner == pytest.approx(10_000)
    assert reference == pytest.approx(25_000)
    assert scenario.rollout_per_learner() == pytest.approx(2 * 10_000 / engine)
    # GPU-seconds per rollout: 2 x 1000 / engine + 0.1 + 0.04.
    ideal = 3600 / (2000 / engine + 0.14)
    assert scenario.ideal_samples_per_gpu_hour() == pytest.approx(ideal)
    # 10 engines run 6,800 sequences and a step of 850 groups has 3,400: 2. An answer takes
    # 1000 x 81.2 ms; a step of 20 GPUs 3,400 / 20 x (0.2388 + 0.14) = 64.4 s: 1.26 more.
    assert scenario.least_lag(Split(10, 8, 2), 850) == 4


def test_the_closed_form_split_is_the_best_simulated_one() -> None:
    work = StudyWorkload((500, 1000), 8, 0.3, 0.3, 100, 50, 2048)
    scenario = Scenario(work=work)
    best = scenario.split(32)
    found = {}
    for learner in (best.learner // 2, best.learner, best.learner * 3 // 2):
        split = Split(32 - best.reference - learner, learner, best.reference)
        found[learner] = run_point(scenario, split, LoopSpec(0, 512, 4)).samples_per_gpu_hour
    assert max(found, key=lambda n: found[n]) == best.learner
    assert found[best.learner] > 0.8 * scenario.ideal_samples_per_gpu_hour()


def test_infinite_cache_is_the_default() -> None:
    assert math.isinf(EngineTimes(1.0, 0.0).kv_tokens)
