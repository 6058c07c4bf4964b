"""Asynchronous step time compared with the larger of generating alone and training alone.

    python -m benchmarks.async_step [--steps 25] [--rounds 3] [--json FILE] [field=value ...]

Each round runs, with one cluster and one set of actors on the same cores:

- async: the RL loop with the configured `rl.max_lag`; its training batches are recorded,
- train alone: the learner trains on those batches again while the engine idles,
- generate alone: the engine serves groups in the same window while the learner idles; seconds per
  step are for the number of tokens sampled in the async run,
- sync: the RL loop with `rl.max_lag=0`.

`ratio` is the async step over the larger of the two alone, `speed_up` sync over async, and
`ideal_speed_up` (generate + train) / max(generate, train). `bound` is the limit set by the cores:
the processor seconds of an async step, summed over all processes, over the number of cores, in
units of that larger one; if it exceeds 1, no schedule of the same work reaches 1. `cpu_s` are those
seconds by role, `cpu_alone_s` those of generating and training alone. The first steps of a run are
skipped. The last line printed is one JSON object.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bard_ray.config.load import load
from bard_ray.config.schema import Config
from bard_ray.records import GroupRequest
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.admission import window_slots
from benchmarks.cluster import all_roles
from benchmarks.common import Arguments, Benchmark, Clock, Option, Record, medians
from benchmarks.live_loop import Batch, CountedSampler, LiveLoop, LoopRun, Seconds, over
from benchmarks.processes import cpu_seconds, used
from benchmarks.student import MODEL, student_path
from recipes.bard_tiny import config as recipe


@dataclass(frozen=True)
class Alone:
    """Wall seconds of an isolated piece of work, and processor seconds by role."""

    wall_s: float
    cpu_s: Seconds


@dataclass(frozen=True)
class Round:
    """The four measurements of a round: training per step, generating per token."""

    running: LoopRun
    sync: LoopRun
    train: Alone
    token: Alone


class Bench:
    """Running roles, and the measurements on them."""

    def __init__(self, loop: LiveLoop) -> None:
        self._loop, self._config, self._roles = loop, loop.config, loop.roles
        self.slots = window_slots(self._config.rl.max_lag, self._config.rl.prompts_per_step)

    async def train_alone(self, batches: Sequence[Batch]) -> Alone:
        """Time per learner step over given batches, with nothing else running."""
        await self._loop.reset()
        await self._roles.learner.step(*batches[0])
        before, clock = cpu_seconds(), Clock()
        for batch in batches:
            await self._roles.learner.step(*batch)
        steps = len(batches)
        return Alone(clock.seconds / steps, over(used(before, cpu_seconds()), steps))

    async def generate_alone(self, groups: int) -> Alone:
        """Time per sampled token, with as many groups in flight as the window has slots."""
        await self._loop.reset()
        spec = self._loop.spec(self._config.rl.max_lag)
        requests = [spec.flow.request(n, BatchStats()) for n in range(groups)]
        sampler = CountedSampler(self._roles.sampler)
        before, clock = cpu_seconds(), Clock()
        waiting = iter(requests[self.slots :])

        async def serve(share: Sequence[GroupRequest]) -> None:
            async for _ in sampler.sample(share, spec.flow.sampling):
                following = next(waiting, None)
                if following is not None:
                    tasks.create_task(serve([following]))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(requests[: self.slots]))
        cpu_s = over(used(before, cpu_seconds()), sampler.tokens)
        return Alone(clock.seconds / sampler.tokens, cpu_s)

    async def round(self) -> Round:
        """Run all four measurements once."""
        running = await self._loop.run(self._config.rl.max_lag)
        train = await self.train_alone(running.batches)
        token = await self.generate_alone(max(6 * self.slots, 64))
        return Round(running, await self._loop.run(0), train, token)


def measure(arguments: Arguments) -> list[Round]:
    """Run all rounds on one set of actors."""
    overrides = ["rl.kl_coef=0", f"rl.steps={arguments.steps}", *arguments.overrides]
    config = load(recipe(), overrides)
    return asyncio.run(run_rounds(config, student_path(arguments.model), arguments.rounds))


async def run_rounds(config: Config, model: str, rounds: int) -> list[Round]:
    """Run the rounds after a short generation that warms up the engine."""
    async with all_roles(config, model) as roles:
        bench = Bench(LiveLoop(config, roles, model))
        await bench.generate_alone(2 * bench.slots)
        return [await bench.round() for _ in range(rounds)]


def figures_of(found: Round, cores: int) -> dict[str, float]:
    """Times and ratios of one round."""
    running, train_s = found.running, found.train.wall_s
    generate_s = running.tokens * found.token.wall_s
    larger = max(train_s, generate_s)
    return {
        "ratio": running.step_s / larger,
        "async_s": running.step_s,
        "train_alone_s": train_s,
        "generate_alone_s": generate_s,
        "sync_s": found.sync.step_s,
        "speed_up": found.sync.step_s / running.step_s,
        "ideal_speed_up": (train_s + generate_s) / larger,
        "engine_busy_share": running.busy_share,
        "bound": sum(running.cpu_s.values()) / cores / larger,
    }


def cpu_alone(found: Round) -> Seconds:
    """Processor seconds of one step by role, training alone plus generating alone."""
    generate = over(found.token.cpu_s, 1.0 / found.running.tokens)
    return {role: found.train.cpu_s.get(role, 0.0) + s for role, s in generate.items()}


def summarize(rounds: Sequence[Round]) -> Record:
    """Medians over rounds, and processor seconds of async steps and of each part alone."""
    cores = len(os.sched_getaffinity(0))
    return {
        **medians([figures_of(found, cores) for found in rounds], 3),
        "cores": cores,
        "cpu_s": medians([found.running.cpu_s for found in rounds], 3),
        "cpu_alone_s": medians([cpu_alone(found) for found in rounds], 3),
    }


def render(record: Record) -> str:
    """Times of a step, then processor seconds by role."""
    steps = ("async_s", "sync_s", "generate_alone_s", "train_alone_s")
    lines = [f"{name:18}{record[name]:8.3f} s per step" for name in steps]
    rates = ("ratio", "bound", "speed_up", "ideal_speed_up", "engine_busy_share")
    lines += [f"{name:18}{record[name]:8.3f}" for name in rates]
    lines.append(f"{'processor seconds':18}{'async':>8}{'alone':>8}")
    lines += [
        f"{role:18}{seconds:8.3f}{record['cpu_alone_s'].get(role, 0.0):8.3f}"
        for role, seconds in record["cpu_s"].items()
    ]
    return "\n".join(lines)


OPTIONS = (Option("steps", 25, 10, "steps of each loop"), Option("rounds", 3, 1), MODEL)
BENCHMARK = Benchmark(
    "async_step", __doc__, measure, summarize, render, OPTIONS, target=1.10, overrides=True
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
