"""The scaling study: which clusters are simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bard_ray.sim.model import LoopSpec
from bard_ray.sim.study import Point, Scenario, Split, run_point

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
LAGS = (0, 1, 2, 4, 8)
PROMPTS_PER_GPU = 4  # batch that grows with the cluster: 64 rollouts a GPU and step
FIXED_PROMPTS = 256  # batch that stays: 4,096 rollouts a step
MOST_STEPPED = 128  # GPUs up to which every lag is simulated; beyond it only the main ones
MAIN_LAGS = (1, 4)
MAIN_LAG = 4
RATIO_GPUS = 64
RATIOS = (1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 14.0, 20.0)


Grid = dict[tuple[int, int], Point]  # by lag and GPUs


@dataclass(frozen=True)
class Study:
    """Every simulated cluster.

    Attributes:
        scenario: the assumptions.
        growing: batch grows with the cluster.
        fixed: the same batch on every cluster.
        split: the same GPUs split in other ways.
        breaks: the largest cluster with one thing made worse at a time, by case.
    """

    scenario: Scenario
    growing: Grid
    fixed: Grid
    split: Sequence[Point]
    breaks: Mapping[str, Point]


def run_study(max_gpus: int) -> Study:
    """Simulate the clusters up to a number of GPUs."""
    scenario = Scenario()
    sizes = [n for n in SIZES if n <= max_gpus]
    return Study(
        scenario,
        _grid(scenario, sizes, None),
        _grid(scenario, sizes, FIXED_PROMPTS),
        _splits(scenario),
        _breaks(scenario, max(sizes)),
    )


def summarize(study: Study) -> dict[str, Any]:
    """Every curve of the study, and the assumptions."""
    scenario = study.scenario
    main = {n: p for (lag, n), p in study.growing.items() if lag == MAIN_LAG}
    first, last = (main[n].samples_per_gpu_hour for n in (min(main), max(main)))
    return {
        "ratio": round(last / first, 4),
        "assumptions": asdict(scenario),
        "engine": asdict(scenario.engine()),
        "rates": [round(r, 1) for r in scenario.rates()],
        "ideal_samples_per_gpu_hour": round(scenario.ideal_samples_per_gpu_hour(), 1),
        "growing_batch": _rows(study.growing, scenario),
        "fixed_batch": _rows(study.fixed, scenario),
        "split": [point_row(point) for point in study.split],
        "closed_form_ratio": round(scenario.rollout_per_learner(), 2),
        "breaks": {name: point_row(point) for name, point in study.breaks.items()},
    }


def _grid(scenario: Scenario, sizes: Sequence[int], prompts: int | None) -> Grid:
    """Clusters of these sizes with every lag; large clusters only with the main lags."""
    points: Grid = {}
    for gpus in sizes:
        split = scenario.split(gpus)
        for lag in LAGS:
            if lag not in MAIN_LAGS and (gpus > MOST_STEPPED or prompts is not None):
                continue
            spec = LoopSpec(0, prompts or PROMPTS_PER_GPU * gpus, lag)
            points[lag, gpus] = run_point(scenario, split, spec)
    return points


def _rows(points: Grid, scenario: Scenario) -> list[dict[str, Any]]:
    """Efficiency against the smallest cluster with the same lag, and against the ideal split.

    `lag_needed`: the `max_lag` required by the closed form.
    """
    ideal = scenario.ideal_samples_per_gpu_hour()
    base = {lag: p.samples_per_gpu_hour for (lag, _), p in reversed(points.items())}
    return [
        {
            **point_row(p),
            "efficiency": round(p.samples_per_gpu_hour / base[lag], 4),
            "of_ideal": round(p.samples_per_gpu_hour / ideal, 4),
            "lag_needed": scenario.least_lag(p.split, p.spec.prompts_per_step),
        }
        for (lag, _), p in points.items()
    ]


def point_row(point: Point) -> dict[str, Any]:
    """One simulated cluster as plain values."""
    figures = point.figures
    return {
        "gpus": point.split.gpus,
        **asdict(point.split),
        "prompts_per_step": point.spec.prompts_per_step,
        "max_lag": point.spec.max_lag,
        "samples_per_gpu_hour": round(point.samples_per_gpu_hour, 2),
        "step_s": round(figures["step_s"], 1),
        "engine_busy": round(figures["engine_busy_share"], 3),
        "learner_wait": round(figures["wait_s"] / figures["step_s"], 3),
        "publish": round(figures["publish_s"] / figures["step_s"], 4),
        "driver_busy": round(figures["driver_busy_share"], 4),
        "preempted_per_sample": round(point.preempted_per_sample, 2),
    }


def _splits(scenario: Scenario) -> list[Point]:
    """Simulate other splits of the same GPUs."""
    points = []
    reference = scenario.split(RATIO_GPUS).reference
    for ratio in RATIOS:
        left = RATIO_GPUS - reference
        learner = max(scenario.least_learners(), round(left / (1 + ratio)))
        split = Split(left - learner, learner, reference)
        for lag in (1, MAIN_LAG):
            spec = LoopSpec(0, PROMPTS_PER_GPU * RATIO_GPUS, lag)
            points.append(run_point(scenario, split, spec))
    return points


def _breaks(scenario: Scenario, gpus: int) -> dict[str, Point]:
    """The largest cluster with one degraded parameter at a time; short budgets stress the driver.

    Those use a quarter of the GPUs, because short budgets give many more groups per second.
    """
    hardware = scenario.hardware
    short = replace(scenario.work, budgets=(250, 500, 1000), max_new_tokens=2048)
    size = gpus // 4
    cases = {
        "as assumed": scenario,
        "star broadcast": replace(scenario, hardware=replace(hardware, tree_broadcast=False)),
        "short budgets": replace(scenario, work=short),
        "short budgets, star broadcast": replace(
            scenario, work=short, hardware=replace(hardware, tree_broadcast=False)
        ),
        "short budgets, driver 20 ms a group": replace(
            scenario, work=short, hardware=replace(hardware, driver_group_s=20e-3)
        ),
    }
    spec = LoopSpec(0, PROMPTS_PER_GPU * size, MAIN_LAG)
    return {name: run_point(case, case.split(size), spec) for name, case in cases.items()}
