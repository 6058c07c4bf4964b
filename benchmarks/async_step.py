"""Asynchronous step time against the larger of generating alone and training alone.

    python -m benchmarks.async_step [--steps 25] [--rounds 3] [--json FILE] [field=value ...]

One cluster, one set of actors, and in each round, on the same cores:

- async: the RL loop with the configured `rl.max_lag`; the batches it trains on are kept,
- train alone: the learner takes those batches again while the engine idles,
- generate alone: the engine serves groups in the same window while the learner idles; seconds a
  step are those that the tokens sampled in the async run would take,
- sync: the RL loop with `rl.max_lag=0`.

`ratio` is the async step over the larger of the two alone, `speed_up` sync over async, and
`ideal_speed_up` (generate + train) / max(generate, train). `bound` is what the cores allow: the
processor seconds of an async step, all processes together, over the number of cores, in units of
that larger one; where it is above 1 no schedule of the same work reaches 1. `cpu_s` are those
seconds by role, `cpu_alone_s` those of generating and training alone. The first `WARM` steps of a
run are left out. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.cluster.env import apply_driver_env
from actors.cluster.ray_cluster import Cluster
from actors.placement.deployment import Roles, Starter, bundles
from actors.placement.plan import plan_placement
from actors.stages.rl import busy_share, rl_optim, rl_spec
from bard_ray.config.load import load
from bard_ray.config.schema import Config
from bard_ray.learn.spec import LossSpec
from bard_ray.records import Group, GroupRequest, SamplingSpec, StepStats, TrainSequence
from bard_ray.rewards.reward import make_reward
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.admission import window_slots
from bard_ray.rl.flow import RLRoles
from bard_ray.rl.loop import train_rl
from bard_ray.rl.state import RLState
from bard_ray.rl.versions import WeightVersions
from bard_ray.roles import Published
from benchmarks.common import Clock, finish, machine, trained_student
from benchmarks.processes import cpu_seconds, used
from recipes.bard_tiny import config as recipe

WARM = 5
TARGET = 1.10
CORES = len(os.sched_getaffinity(0))
Batch = tuple[Sequence[TrainSequence], LossSpec, float]
Seconds = dict[str, float]  # by role
Round = tuple[dict[str, float], Seconds, Seconds]


class KeptBatches:
    """The learner, with every batch it trains on kept."""

    def __init__(self, learner: Any) -> None:
        self._learner = learner
        self.batches: list[Batch] = []

    async def step(
        self, sequences: Sequence[TrainSequence], loss: LossSpec, lr: float
    ) -> StepStats:
        """One step of the learner."""
        self.batches.append((sequences, loss, lr))
        stats: StepStats = await self._learner.step(sequences, loss, lr)
        return stats

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)


class CountedSampler:
    """The sampler, with the tokens of the groups it hands out counted."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.tokens = 0

    async def sample(
        self, requests: Sequence[GroupRequest], spec: SamplingSpec
    ) -> AsyncIterator[Group]:
        """Groups of the sampler."""
        async for group in self._sampler.sample(requests, spec):
            self.tokens += sum(r.completion_tokens for r in group.rollouts)
            yield group

    async def publish(self, weights: Published, version: int) -> float:
        """The sampler's."""
        stall_s: float = await self._sampler.publish(weights, version)
        return stall_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


class Bench:
    """Roles that are up, and the four measurements."""

    def __init__(self, config: Config, roles: Roles, model: str) -> None:
        self._config, self._roles, self._model = config, roles, model
        self._versions = WeightVersions()
        self.batches: list[Batch] = []

    async def _begin(self) -> None:
        """Learner and engines at the student's weights again."""
        await self._roles.learner.begin(self._model, rl_optim(self._config.rl))
        weights = await self._roles.learner.publish()
        await self._roles.sampler.publish(weights, self._versions.next())

    async def loop(self, max_lag: int) -> dict[str, Any]:
        """The RL loop; seconds and sampled tokens a step, processor seconds, busy share of engines.

        The last two leave out the end of the run, when nothing is left to ask for.
        """
        roles, config = self._roles, self._config
        spec = rl_spec(replace(config, rl=replace(config.rl, max_lag=max_lag)))
        await self._begin()
        state = RLState(versions=self._versions)
        learner, sampler = KeptBatches(roles.learner), CountedSampler(roles.sampler)
        clocks: list[tuple[float, int]] = []
        readings: list[tuple[Any, Seconds]] = []
        steady = (WARM, max(WARM + 1, spec.steps - max_lag - 1))
        clock = Clock()

        async def on_step(now: RLState, values: dict[str, float]) -> None:
            clocks.append((clock.seconds, sampler.tokens))
            if now.step in steady:
                readings.append((await roles.sampler.stats(), cpu_seconds()))

        loop_roles = RLRoles(sampler, roles.verifier, learner, roles.reference)
        await train_rl(loop_roles, make_reward(config.rl.reward), spec, state, on_step)
        (before, cpu_before), (after, cpu_after) = readings
        if max_lag:
            self.batches = learner.batches[WARM:]
        steps = len(clocks) - WARM
        seconds, tokens = (b - a for a, b in zip(clocks[WARM - 1], clocks[-1], strict=True))
        return {
            "step_s": seconds / steps,
            "tokens": tokens / steps,
            "busy_share": busy_share(before, after),
            "cpu_s": _over(used(cpu_before, cpu_after), steady[1] - steady[0]),
        }

    async def train_alone(self) -> tuple[float, Seconds]:
        """Seconds a step over the kept batches, nothing else running, and processor seconds."""
        await self._begin()
        await self._roles.learner.step(*self.batches[0])
        before, clock = cpu_seconds(), Clock()
        for batch in self.batches:
            await self._roles.learner.step(*batch)
        steps = len(self.batches)
        return clock.seconds / steps, _over(used(before, cpu_seconds()), steps)

    async def generate_alone(self, groups: int) -> tuple[float, Seconds]:
        """Seconds and processor seconds a token, as many groups under way as there are slots."""
        await self._begin()
        spec = rl_spec(self._config)
        lag = spec.flow.lag
        slots = window_slots(lag.max_lag, lag.prompts_per_step)
        requests = [spec.flow.request(n, BatchStats()) for n in range(groups)]
        sampler = CountedSampler(self._roles.sampler)
        before, clock = cpu_seconds(), Clock()
        waiting = iter(requests[slots:])

        async def serve(share: Sequence[GroupRequest]) -> None:
            async for _ in sampler.sample(share, spec.flow.sampling):
                following = next(waiting, None)
                if following is not None:
                    tasks.create_task(serve([following]))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(requests[:slots]))
        per_token = _over(used(before, cpu_seconds()), sampler.tokens)
        return clock.seconds / sampler.tokens, per_token

    async def round(self, groups: int) -> Round:
        """All four once: the figures, and processor seconds a step by role together and alone."""
        running = await self.loop(self._config.rl.max_lag)
        train_s, train_cpu = await self.train_alone()
        token_s, token_cpu = await self.generate_alone(groups)
        sync = await self.loop(0)
        generate_s = running["tokens"] * token_s
        larger = max(train_s, generate_s)
        generate_cpu = _over(token_cpu, 1.0 / running["tokens"])
        alone = {role: train_cpu.get(role, 0.0) + s for role, s in generate_cpu.items()}
        figures = {
            "ratio": running["step_s"] / larger,
            "async_s": running["step_s"],
            "train_alone_s": train_s,
            "generate_alone_s": generate_s,
            "sync_s": sync["step_s"],
            "speed_up": sync["step_s"] / running["step_s"],
            "ideal_speed_up": (train_s + generate_s) / larger,
            "engine_busy_share": running["busy_share"],
            "bound": sum(running["cpu_s"].values()) / CORES / larger,
        }
        return figures, running["cpu_s"], alone


def _over(seconds: Seconds, count: float) -> Seconds:
    return {role: s / count for role, s in seconds.items()}


def medians(rounds: Sequence[Seconds]) -> Seconds:
    """Of each name over the rounds."""
    return {name: round(statistics.median(r[name] for r in rounds), 3) for name in rounds[0]}


@asynccontextmanager
async def roles_up(config: Config, model: str) -> AsyncIterator[Roles]:
    """A cluster of its own with every role started."""
    plan = plan_placement(config)
    with tempfile.TemporaryDirectory() as logs:
        cluster = Cluster(config.cluster, Path(logs), verbose=False)
        try:
            await asyncio.to_thread(cluster.connect)
            await cluster.reserve(bundles(plan))
            roles = Starter(cluster, plan, config, model).start()
            await asyncio.gather(roles.learner_ready, roles.sampling_ready)
            yield roles
            await roles.stop()
        finally:
            cluster.close()


async def measure(config: Config, model: str, rounds: int) -> list[Round]:
    """Figures of every round; one warm-up round of a few steps goes before."""
    slots = window_slots(config.rl.max_lag, config.rl.prompts_per_step)
    async with roles_up(config, model) as roles:
        bench = Bench(config, roles, model)
        await bench.generate_alone(2 * slots)
        results = []
        for number in range(rounds):
            results.append(await bench.round(max(6 * slots, 64)))
            shown = "  ".join(f"{name} {value:.3f}" for name, value in results[-1][0].items())
            print(f"round {number + 1}: {shown}", flush=True)
    return results


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", help="model directory; default: a short student, made once")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one round of 10 steps")
    args = parser.parse_intermixed_args()
    if args.quick:
        args.rounds, args.steps = 1, 10
    facts, model = machine(), args.model or trained_student()
    apply_driver_env()
    config = load(recipe(), ["rl.kl_coef=0", f"rl.steps={args.steps}", *args.overrides])
    results = asyncio.run(measure(config, model, args.rounds))
    figures, together, alone = (medians(part) for part in zip(*results, strict=True))
    settings = {"steps": args.steps, "rounds": args.rounds, "max_lag": config.rl.max_lag}
    record = {"benchmark": "async_step", **facts, "target": TARGET, **figures, **settings}
    record |= {"cores": CORES, "cpu_s": together, "cpu_alone_s": alone}
    finish(record | {"overrides": args.overrides}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
