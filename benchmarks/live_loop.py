"""The real RL loop on running roles, with its use of the machine."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actors.placement.deployment import Roles
from actors.stages.rl import busy_share, rl_optim, rl_spec
from bard_ray.config.schema import Config
from bard_ray.learn.spec import LossSpec
from bard_ray.records import Group, GroupRequest, SamplingSpec, StepStats, TrainSequence
from bard_ray.rewards.reward import make_reward
from bard_ray.rl.flow import RLRoles
from bard_ray.rl.loop import RLSpec, train_rl
from bard_ray.rl.state import RLState
from bard_ray.rl.versions import WeightVersions
from bard_ray.roles import Published
from benchmarks.common import Clock, note, require_steps
from benchmarks.processes import cpu_seconds, used

WARM = 5  # first steps of a run, skipped
Batch = tuple[Sequence[TrainSequence], LossSpec, float]
Seconds = dict[str, float]  # by role


@dataclass(frozen=True)
class LoopRun:
    """Figures of one run of the loop, without its first `WARM` steps.

    Attributes:
        step_s: wall seconds of a step.
        tokens: sampled tokens of a step.
        stall_s: median seconds in which loading weights kept an engine from stepping.
        busy_share: share of the time in which the engines stepped or added requests.
        cpu_s: processor seconds of a step, by role.
        batches: training batches of the learner, one entry per step.

    `busy_share` and `cpu_s` exclude the end of the run, when no requests are left.
    """

    step_s: float
    tokens: float
    stall_s: float
    busy_share: float
    cpu_s: Seconds
    batches: Sequence[Batch] = ()


class KeptBatches:
    """The learner, with its training batches recorded."""

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
    """The sampler, with the tokens of its groups counted."""

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
        """Load weights into the engines; returns the seconds of their stall."""
        stall_s: float = await self._sampler.publish(weights, version)
        return stall_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


@dataclass
class Observed:
    """Observations of a running loop at the end of its steps."""

    steady: tuple[int, int]  # steps between which engines and processes are compared
    sampler: CountedSampler
    clock: Clock
    ends: list[tuple[float, int]]  # seconds and sampled tokens so far
    stalls: list[float]
    readings: list[tuple[Any, Seconds]]  # engines' counters and processor seconds at `steady`

    @classmethod
    def of(cls, sampler: CountedSampler, steps: int, max_lag: int) -> Observed:
        """Start without observations; the steady part ends before the window drains."""
        last = max(WARM + 1, steps - max_lag - 1)
        return cls((WARM, last), sampler, Clock(), [], [], [])

    async def on_step(self, now: RLState, values: dict[str, float]) -> None:
        """Record the end of a step."""
        self.ends.append((self.clock.seconds, self.sampler.tokens))
        if "time/stall_s" in values:  # a transfer ended in this step
            self.stalls.append(values["time/stall_s"])
        if now.step in self.steady:
            self.readings.append((await self.sampler.stats(), cpu_seconds()))

    def run(self, batches: Sequence[Batch]) -> LoopRun:
        """The figures."""
        (before, cpu_before), (after, cpu_after) = self.readings
        steps, (first, last) = len(self.ends) - WARM, self.steady
        seconds, tokens = (b - a for a, b in zip(self.ends[WARM - 1], self.ends[-1], strict=True))
        return LoopRun(
            step_s=seconds / steps,
            tokens=tokens / steps,
            stall_s=statistics.median(self.stalls),
            busy_share=busy_share(before, after),
            cpu_s=over(used(cpu_before, cpu_after), last - first),
            batches=batches[WARM:],
        )


class LiveLoop:
    """Running roles, and the RL loop, which starts from the same student each time."""

    def __init__(self, config: Config, roles: Roles, model: str) -> None:
        require_steps(config.rl.steps, WARM)
        self.config, self.roles, self._model = config, roles, model
        self._versions = WeightVersions()

    async def reset(self) -> None:
        """Load the student's weights into learner and engines."""
        await self.roles.learner.begin(self._model, rl_optim(self.config.rl))
        weights = await self.roles.learner.publish()
        await self.roles.sampler.publish(weights, self._versions.next())

    def spec(self, max_lag: int) -> RLSpec:
        """The loop's constants with this lag."""
        return rl_spec(replace(self.config, rl=replace(self.config.rl, max_lag=max_lag)))

    async def run(self, max_lag: int) -> LoopRun:
        """Run all configured steps of the loop with this lag."""
        roles, config, spec = self.roles, self.config, self.spec(max_lag)
        await self.reset()
        state = RLState(versions=self._versions)
        learner, sampler = KeptBatches(roles.learner), CountedSampler(roles.sampler)
        seen = Observed.of(sampler, spec.steps, max_lag)
        loop_roles = RLRoles(sampler, roles.verifier, learner, roles.reference)
        await train_rl(loop_roles, make_reward(config.rl.reward), spec, state, seen.on_step)
        run = seen.run(learner.batches)
        note(f"max_lag {max_lag}: {run.step_s:.3f} s per step, engines busy {run.busy_share:.3f}")
        return run


def over(seconds: Seconds, count: float) -> Seconds:
    """Seconds by role, divided."""
    return {role: s / count for role, s in seconds.items()}
