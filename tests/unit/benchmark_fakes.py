"""Small made-up measurements, one for each benchmark, with the ratio that follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bard_ray.distill.acceptance import AcceptanceTable
from bard_ray.distill.choice import CandidateFigures, TeacherChoice
from bard_ray.sim.model import EngineTimes, LearnerTimes, LoopSpec, System
from bard_ray.sim.study import Point, Scenario, Split
from benchmarks.async_step import Alone, Round
from benchmarks.cold_start import Start
from benchmarks.ded import SeedRuns, StudentOutcome
from benchmarks.distill import StageRun
from benchmarks.equivalence import Pair, Said
from benchmarks.learner_throughput import BARE, ONE_RANK, TWO_RANKS, Times
from benchmarks.levenshtein import Timing
from benchmarks.live_loop import LoopRun
from benchmarks.memory_plan import MIB, Found
from benchmarks.simulator.sweep import Study
from benchmarks.simulator.validate import FIGURES, Measured, Shape
from benchmarks.student import RLRun
from benchmarks.trl_runs import Run
from benchmarks.vs_trl import Compared
from benchmarks.vs_trl_curve import Pairs
from benchmarks.weight_sync import Updates


@dataclass(frozen=True)
class Fake:
    """What `measure` could have returned.

    Attributes:
        found: the measurement.
        ratio: of the record.
        shown: a part of the table.
    """

    found: Any
    ratio: float
    shown: str


LOOP = LoopRun(0.5, 2000.0, 0.002, 0.96, {"driver": 0.1, "rollout": 0.6, "learner": 0.3})


def acceptance() -> Fake:
    """One try accepts one of four, four tries accept three."""
    tables = {}
    for attempts, accepted in ((1, 1), (4, 3)):
        tables[attempts] = table = AcceptanceTable()
        for number in range(4):
            table.add(1000, 900, "" if number < accepted else "too_long", attempts)
    return Fake(tables, 3.0, "accepted 0.750  mean attempts 4.00  |L-b|/b 0.100")


def async_step() -> Fake:
    """Generating 2,000 tokens alone takes 0.4 s, training alone 0.2 s, an async step 0.5 s."""
    sync = replace(LOOP, step_s=0.8)
    train, token = Alone(0.2, {"learner": 0.2}), Alone(0.0002, {"driver": 2e-5, "rollout": 2e-4})
    return Fake([Round(LOOP, sync, train, token)] * 2, 1.25, "speed_up             1.600")


def cold_start() -> Fake:
    """The parts in turn take 10 and 14 s; the commands took 11 and 21 s."""
    parts = {"data": 1.0, "imports": 1.0, "ray": 2.0, "placement": 0.5}
    parts |= {"learner": 3.0, "load": 1.5, "step": 1.0, "engines": 7.0}
    found = {"gradient": [Start(11.0, parts)], "rl": [Start(21.0, parts)]}
    return Fake(found, 1.1, "ratio                             1.10            1.50")


def ded() -> Fake:
    """Curated rows score .3, random ones .2; the smoke test chose the best teacher."""

    def outcome(accuracy: float) -> StudentOutcome:
        figures = {"accuracy": accuracy, "in_band": 0.5, "rel_err": 0.1, "overrun": 0.2}
        return StudentOutcome(figures, 100, "clean")

    choice = TeacherChoice("clean", (CandidateFigures("clean", 10, 2, 8, 0.5, 0.1),))
    corpora = {"curated": 0.6, "curated_long": 0.7, "random": 0.4, "random_5x": 0.7}
    runs = SeedRuns(
        choice,
        {"clean": outcome(0.6), "sloppy": outcome(0.5)},
        {name: outcome(accuracy) for name, accuracy in corpora.items()},
    )
    return Fake([runs], 1.5, "0.4 (0.4 to 0.4)")


def distill() -> Fake:
    """Made again in a tenth of the time."""
    step = {"name": "teach", "records": 10, "kept": 10, "seconds": 2.0, "records_per_s": 5.0}
    first, again = ([step | {"reused": reused, "parts": 1}] for reused in (0, 1))
    return Fake((StageRun(20.0, first), StageRun(2.0, again)), 0.1, "100%")


def equivalence() -> Fake:
    """Of two pairs ours is right about both, math-verify about one."""
    right = Pair("number", True, "0.5", "1/2", "suite")
    wrong = Pair("list", False, "5, 6", "5", "ours")
    said = [Said(right, True, True, 0.001, 0.02), Said(wrong, False, True, 0.003, 0.02)]
    return Fake(said, 2.0, "ms per pair: ours 2.00, theirs 20.00")


def kv_after_update() -> Fake:
    """Recomputing takes a quarter longer."""
    keep = {"gap_mean": 0.04, "gap_max": 1.0, "tokens_after": 2500, "seconds_after": 0.4}
    rows = {"keep": [keep], "recompute": [keep | {"gap_mean": 1e-6, "seconds_after": 0.5}]}
    return Fake(rows, 1.25, "recompute: 1.0e-06 nats")


def learner_throughput() -> Fake:
    """10,000 tokens in 2 s, in 1 s with two ranks, in 1.8 s in the bare loop."""
    seconds = {ONE_RANK: 2.0, TWO_RANKS: 1.0, BARE: 1.8, "eager, packed, block mask": 1.8}
    times = Times({name: [(s, s)] * 3 for name, s in seconds.items()}, 10_000)
    return Fake(times, 0.9, "5,000 tokens/s")


def levenshtein() -> Fake:
    """Two threads are 1.6 times as fast as one."""
    timings = [
        Timing(kind, workers, 10, 1200, wall_s, 1.0)
        for kind in ("unrelated", "related")
        for workers, wall_s in ((1, 1.6), (2, 1.0))
    ]
    return Fake(timings, 1.6, "160.0")


def memory_plan() -> Fake:
    """Driver and learner were planned with 400 MiB and take 500."""
    planned = {"driver": 100 * MIB, "learner": 300 * MIB, "ray": 50 * MIB}
    measured = {"driver": 100 * MIB, "learner": 400 * MIB, "ray": 100 * MIB}
    return Fake([Found("tiny", planned, measured)], 0.8, "400   0.75")


def rl_loop() -> Fake:
    """The learner trains half of a step."""
    step = {
        "rl/groups_trained": 16,
        "rl/groups_zero_variance": 8,
        "rl/samples_per_s": 256.0,
        "rl/tokens": 2000,
        "rl/lag_mean": 0.8,
    }
    times = {"step": 0.5, "wait": 0.2, "train": 0.25, "publish": 0.05, "transfer": 0.02}
    times |= {"stall": 0.001, "generate": 0.3, "grade": 0.01, "reference": 0.02}
    step |= {f"time/{name}_s": seconds for name, seconds in times.items()}
    found = RLRun([step] * 8, {"engine_busy_share": 0.9})
    return Fake(found, 0.5, "tokens_sampled_per_s    6,000.00")


def rollout_throughput() -> Fake:
    """Nine tenths of a bare engine, and a tenth more than the offline interface."""
    rates = {"ray": [9000.0] * 2, "bare": [10_000.0] * 2, "offline": [8000.0] * 2}
    point = {"workers": 1, "concurrency": 0, "groups": 64, "rates": rates, "busy_share": 0.98}
    few = point | {"concurrency": 64, "rates": {"ray": [7000.0], "bare": [8000.0]}}
    return Fake([few, point], 0.9, "    10,000     8,000")


def scaling() -> Fake:
    """A larger cluster with a tenth less per GPU."""

    def point(gpus: int, samples_per_s: float) -> Point:
        figures = {"samples_per_s": samples_per_s, "step_s": 100.0, "wait_s": 10.0}
        figures |= {"publish_s": 1.0, "engine_busy_share": 0.9, "driver_busy_share": 0.01}
        return Point(Split(gpus - 3, 2, 1), LoopSpec(9, 4 * gpus, 4), figures, 0.0)

    grid = {(4, 8): point(8, 0.8), (4, 16): point(16, 1.44)}
    study = Study(Scenario(), grid, grid, [point(16, 1.44)], {"as assumed": point(16, 1.44)})
    return Fake(study, 0.9, "as assumed")


def scaling_validation() -> Fake:
    """Steps take a tenth longer than predicted."""
    shape, predicted = Shape(1, 16, 8), dict.fromkeys(FIGURES, 0.5)
    measured = predicted | {"step_s": 0.55, "lag_mean": 0.8}
    system = System(EngineTimes(0.01, 1e-4), LearnerTimes(0.01, 1e-5))
    return Fake(Measured(system, {shape: [measured] * 2}, {shape: predicted}), 1.1, "0.550")


def utilization() -> Fake:
    """Busy 96 % of the time; a step of 0.5 s has a stall of 2 ms."""
    return Fake([LOOP] * 3, 0.96, "median            0.96         0.004")


def verifier() -> Fake:
    """50 times as fast as plain math-verify."""
    row = {"wall_per_s": 1000.0, "mismatches": 0}
    figures = {
        "clean_speedup": 50.0,
        "clean_speedup_wall": 60.0,
        "verdict_mismatches": 0,
        "plain_mismatches": 0,
        **dict.fromkeys(("ours", "plain", "pool"), row),
        "hostile_throughput_loss": 0.1,
        "worst_over_limit_s": 0.0,
        "pool_mismatches": 0,
        **dict.fromkeys(("ours_pool_clean", "ours_pool_hostile"), row),
        "pool_stats": {"asked": 100},
        "peers_hostile_throughput_loss": 0.9,
        "peers_slowest_s": 5.1,
        "peers_hostile_items": 50,
    }
    return Fake(figures, 50.0, "ours 10.0%, pool 90.0%")


def _run(rate: float) -> Run:
    return Run(rate, 1.5 * rate, tuple(range(64, 641, 64)), (0.25,) * 5 + (0.75,) * 5)


def vs_trl() -> Fake:
    """Twice the samples/s."""
    compared = Compared([_run(200.0)] * 2, [_run(100.0)] * 2, {"version": "1.16.0"}, {})
    return Fake(compared, 2.0, "TRL      100.0 samples/s")


def vs_trl_curve() -> Fake:
    """Two seeds that learn alike on both sides."""
    pair = (_run(200.0), _run(100.0))
    return Fake(Pairs([pair, pair], {"version": "1.16.0"}), 1.0, "0.750 ± 0.000")


def weight_sync() -> Fake:
    """A stall of 2 ms beside a memcpy of 8 ms."""
    names = ("get", "stall", "prepare", "gap", "gather", "put")
    row = {f"{name}_s": 0.002 for name in names}
    row |= {"tokens_per_s_before": 100.0, "tokens_per_s_during": 80.0}
    updates = Updates(88_000_000, (0.008, 0.08), [row] * 3)
    found = {name: {"background": updates, "in_place": updates} for name in ("tiny", "50m")}
    return Fake(found, 0.25, "100    0.80")


FAKES = {
    make.__name__: make
    for make in (
        acceptance,
        async_step,
        cold_start,
        ded,
        distill,
        equivalence,
        kv_after_update,
        learner_throughput,
        levenshtein,
        memory_plan,
        rl_loop,
        rollout_throughput,
        scaling,
        scaling_validation,
        utilization,
        verifier,
        vs_trl,
        vs_trl_curve,
        weight_sync,
    )
}
