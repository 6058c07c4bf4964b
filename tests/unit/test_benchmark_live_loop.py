"""The loop as `utilization` and `async_step` measure it, on roles in this process."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from bard_ray.config.load import load
from benchmarks import utilization
from benchmarks.async_step import Bench, figures_of
from benchmarks.live_loop import WARM, LiveLoop
from recipes.bard_tiny import config as recipe
from tests.loop.fakes import FakeLearner, FakeSampler, FakeVerifier

STEPS, PROMPTS, GROUP = 12, 4, 8


@dataclass
class BusySampler(FakeSampler):
    """A sampler whose engine is busy three quarters of the time, and stalls 3 ms an update."""

    up_s: float = 0.0

    async def stats(self) -> list[dict[str, float]]:
        self.up_s += 4.0
        return [{"busy_s": 0.75 * self.up_s, "up_s": self.up_s}]

    async def publish(self, weights: Any, version: int) -> float:
        await super().publish(weights, version)
        return 0.003


@dataclass
class Student(FakeLearner):
    """A learner that can begin again."""

    begun: int = 0

    async def begin(self, init_path: str, optim: Any) -> None:
        self.begun += 1


def live_loop(max_lag: int) -> LiveLoop:
    sizes = [f"rl.steps={STEPS}", f"rl.prompts_per_step={PROMPTS}", f"rl.group_size={GROUP}"]
    config = load(recipe(), ["rl.kl_coef=0", f"rl.max_lag={max_lag}", *sizes])
    roles: Any = SimpleNamespace(
        sampler=BusySampler(latency=lambda request: 0.001),
        learner=Student(latency=0.002),
        verifier=FakeVerifier(),
        reference=None,
    )
    return LiveLoop(config, roles, "model")


async def test_a_run_has_busy_share_stall_and_tokens_of_its_steady_steps():
    loop = live_loop(max_lag=2)
    run = await loop.run(2)
    assert run.busy_share == 0.75
    assert run.stall_s == 0.003
    assert len(run.batches) == STEPS - WARM
    # A group of 8 has 3 to 10 tokens an answer, and at least the trained ones were sampled.
    assert run.tokens > 0.5 * PROMPTS * GROUP * 3
    assert run.step_s > 0.002
    assert set(run.cpu_s) >= {"driver"}


async def test_runs_start_from_the_student_and_number_versions_on():
    loop = live_loop(max_lag=1)
    await loop.run(1)
    first = loop.roles.sampler.version  # type: ignore[attr-defined]
    await loop.run(0)
    assert first == 1 + STEPS
    assert loop.roles.sampler.version == 2 * (1 + STEPS)  # type: ignore[attr-defined]
    assert loop.roles.learner.begun == 2  # type: ignore[attr-defined]


async def test_utilization_reports_what_the_loop_measured():
    loop = live_loop(max_lag=3)
    run = await loop.run(3)
    record = utilization.summarize([run])
    assert record["ratio"] == 0.75
    assert record["stall_share"] == round(0.003 / run.step_s, 4)


async def test_a_round_of_async_step_measures_all_four():
    loop = live_loop(max_lag=2)
    found = await Bench(loop).round()
    assert found.train.wall_s > 0.002
    assert found.token.wall_s > 0
    assert len(found.running.batches) == STEPS - WARM
    figures = figures_of(found, cores=2)
    larger = max(figures["train_alone_s"], figures["generate_alone_s"])
    assert figures["ratio"] == found.running.step_s / larger
    assert figures["speed_up"] == found.sync.step_s / found.running.step_s
    assert loop.roles.learner.begun == 4  # type: ignore[attr-defined]
