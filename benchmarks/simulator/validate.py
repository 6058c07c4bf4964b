"""Real runs of the loop, and the predictions of the simulation."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from actors.stages.context import Context
from actors.stages.rl import rl_spec
from bard_ray.rewards.reward import make_reward
from bard_ray.rl.flow import RLRoles
from bard_ray.rl.loop import train_rl
from bard_ray.rl.state import RLState
from bard_ray.sim.loop import simulate
from bard_ray.sim.model import LoopSpec, System, Workload
from benchmarks.common import note
from benchmarks.simulator.measure import RoleMeter
from benchmarks.simulator.session import open_session, session_config

WARM = 6
CALIBRATION_STEPS = 10
SEEDS = 4  # simulated runs a configuration
WORKLOAD_GROUPS = 192
FIGURES = (
    "step_s",
    "wait_s",
    "train_s",
    "publish_s",
    "samples_per_s",
    "engine_busy_share",
    "zero_variance_per_trained",
)


@dataclass(frozen=True)
class Shape:
    """One configuration of the loop."""

    max_lag: int
    prompts_per_step: int
    group_size: int

    @property
    def name(self) -> str:
        """Display name."""
        return f"lag {self.max_lag}  {self.prompts_per_step} x {self.group_size}"


SHAPES = (
    Shape(0, 16, 8),
    Shape(1, 16, 8),
    Shape(2, 16, 8),
    Shape(1, 8, 8),
    Shape(1, 16, 4),
    Shape(2, 8, 16),
)


@dataclass
class ObservedSteps:
    """Observations of a real run at the end of each step."""

    ends: list[float] = field(default_factory=list)
    values: list[Mapping[str, float]] = field(default_factory=list)
    engine: dict[int, Mapping[str, float]] = field(default_factory=dict)


async def real_run(meter: RoleMeter, shape: Shape, steps: int) -> dict[str, float]:
    """Run the real loop; returns means over its steps without the first and last ones."""
    context, roles = meter.context, meter.roles
    config = replace(context.config, rl=replace(context.config.rl, steps=steps, **asdict(shape)))
    spec, seen = rl_spec(config), ObservedSteps()
    state = RLState(versions=context.versions)
    last = steps - tail(shape)

    async def on_step(now: RLState, values: Mapping[str, float]) -> None:
        seen.ends.append(time.perf_counter())
        seen.values.append(values)
        if now.step in (WARM, last):
            seen.engine[now.step] = (await roles.sampler.stats())[0]

    before = time.thread_time()
    await train_rl(
        RLRoles(roles.sampler, roles.verifier, roles.learner, roles.reference),
        make_reward(config.rl.reward),
        spec,
        state,
        on_step,
    )
    meter.samples.driver_group_s.append((time.thread_time() - before) / state.ledger.consumed)
    await _drained(context)
    return _summary(meter, seen, last)


def _summary(meter: RoleMeter, seen: ObservedSteps, last: int) -> dict[str, float]:
    kept = seen.values[WARM:last]
    wall_s = seen.ends[last - 1] - seen.ends[WARM - 1]
    count = last - WARM
    inside = sum(v["time/step_s"] for v in kept)
    meter.samples.after_step_s.append(max(0.0, wall_s - inside) / count)
    first, final = seen.engine[WARM], seen.engine[last]
    laps = {k: statistics.fmean(v[f"time/{k}"] for v in kept) for k in ("wait_s", "train_s")}
    samples = sum(v["rl/samples_per_s"] * v["time/step_s"] for v in kept)
    return {
        "step_s": wall_s / count,
        **laps,
        "publish_s": statistics.fmean(v["time/publish_s"] for v in kept),
        "samples_per_s": samples / wall_s,
        "engine_busy_share": (final["busy_s"] - first["busy_s"]) / (final["up_s"] - first["up_s"]),
        "zero_variance_per_trained": sum(v["rl/groups_zero_variance"] for v in kept)
        / sum(v["rl/groups_trained"] for v in kept),
        "lag_mean": statistics.fmean(v["rl/lag_mean"] for v in kept),
    }


async def _drained(context: Context) -> None:
    """Wait until the engines are idle, because a run drops its requests in flight at the end."""
    for _ in range(200):
        if not any(s["running"] for s in await context.roles.sampler.stats()):
            return
        await asyncio.sleep(0.05)


def tail(shape: Shape) -> int:
    """Steps at the end of a run in which nothing new is admitted."""
    return shape.max_lag + 1


def predict(
    system: System, shape: Shape, steps: int, workloads: list[Workload]
) -> dict[str, float]:
    """Mean of simulated runs, one per workload."""
    spec = LoopSpec(steps, shape.prompts_per_step, shape.max_lag)
    runs = [simulate(system, spec, w).steady(WARM, tail(shape)) for w in workloads]
    return {key: statistics.fmean(run[key] for run in runs) for key in runs[0]}


@dataclass(frozen=True)
class Measured:
    """One session: service times of the roles, and real runs with their predictions.

    Attributes:
        system: fitted service times.
        runs: figures of each real run, by configuration.
        predicted: simulated figures, by configuration.
    """

    system: System
    runs: Mapping[Shape, Sequence[Mapping[str, float]]]
    predicted: Mapping[Shape, Mapping[str, float]]


async def validate(
    directory: str, shapes: Sequence[Shape], steps: int, rounds: int, overrides: list[str]
) -> Measured:
    """Calibration and real runs in turn, then the predictions."""
    config = session_config(directory, overrides)
    async with open_session(config) as context:
        meter = RoleMeter(context)
        await meter.collect(WORKLOAD_GROUPS)
        await meter.alone()
        runs: dict[Shape, list[dict[str, float]]] = {shape: [] for shape in shapes}
        for _ in range(rounds):
            for shape in shapes:
                await meter.alone()
                await meter.together()
                runs[shape].append(await real_run(meter, shape, steps))
                _show(meter, shape, runs[shape][-1], steps)
    system = meter.system()
    predicted = {
        shape: predict(
            system, shape, steps, [meter.workload(shape.group_size, i) for i in range(SEEDS)]
        )
        for shape in runs
    }
    return Measured(system, runs, predicted)


def _show(meter: RoleMeter, shape: Shape, measured: dict[str, float], steps: int) -> None:
    """Print one line per run; the prediction uses all measurements so far."""
    workload = meter.workload(shape.group_size, 0)
    predicted = predict(meter.system(), shape, steps, [workload])["step_s"]
    note(f"{shape.name}: {measured['step_s']:.3f} s per step, {predicted:.3f} predicted")


async def calibrate(directory: str, rounds: int, overrides: list[str]) -> Measured:
    """Service times of the roles on this machine, without any comparison."""
    async with open_session(session_config(directory, overrides)) as context:
        meter = RoleMeter(context)
        await meter.collect(WORKLOAD_GROUPS)
        for _ in range(rounds):
            await meter.alone()
            await meter.together()
        # The driver's share shows only in a run.
        await real_run(meter, SHAPES[1], WARM + CALIBRATION_STEPS)
    return Measured(meter.system(), {}, {})


def compare(found: Measured) -> dict[str, Any]:
    """Measured (median of the runs) and predicted figures of every configuration."""
    rows = [_compared(shape, runs, found.predicted[shape]) for shape, runs in found.runs.items()]
    ratios = [float(row["ratio"]) for row in rows]
    worst = max(ratios, key=lambda ratio: abs(ratio - 1), default=None)
    return {
        "ratio": worst,
        "worst_error": None if worst is None else round(abs(worst - 1), 4),
        "service_times": _finite(asdict(found.system)),
        "configurations": rows,
    }


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace infinities by None, because JSON has no infinity."""
    return {
        key: _finite(value) if isinstance(value, dict) else None if value == math.inf else value
        for key, value in values.items()
    }


def _compared(
    shape: Shape, runs: Sequence[Mapping[str, float]], predicted: Mapping[str, float]
) -> dict[str, Any]:
    seen = {k: statistics.median(run[k] for run in runs) for k in runs[0]}
    return {
        "configuration": asdict(shape),
        "measured": {k: round(v, 4) for k, v in seen.items()},
        "predicted": {k: round(predicted[k], 4) for k in FIGURES},
        "ratio": round(seen["step_s"] / predicted["step_s"], 4),
    }
