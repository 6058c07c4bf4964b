"""RL runs of BARD and of TRL's GRPOTrainer on the same task, each in a separate process.

Both train the same short student on the same questions and budgets in the same order, with the same
group size, token limit, number of updates, optimizer, clipping and reward functions, no KL term,
and both have all cores. TRL generates with transformers, the fastest of its backends that runs on a
CPU. TRL is not part of the environment: it is installed without its dependencies into a directory
of its own when it is not there.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from benchmarks.children import json_lines
from benchmarks.common import ROOT, Option, Record
from benchmarks.student import MODEL, RLRun, run_rl

WARM = 5
TRL = "trl==1.16.*"
GROUP, PROMPTS = 8, 8
BATCH = GROUP * PROMPTS
CURVE_POINTS = 8
# Two threads that sleep while they wait: spinning is up to 20 times slower under other load.
TRL_THREADS = 2
TRL_ENV = {
    "OMP_NUM_THREADS": str(TRL_THREADS),
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
}


OPTIONS = (
    Option("steps", 60, 10, "updates of each run"),
    Option("trl_dir", ROOT / "build" / "trl", help="directory of TRL", parse=Path),
    MODEL,
)


@dataclass(frozen=True)
class Choice:
    """Settings of TRL that have no counterpart here."""

    bf16: bool = False
    steps_per_generation: int = 1

    @property
    def name(self) -> str:
        """Name in the record."""
        return f"{'bf16' if self.bf16 else 'fp32'}, {self.steps_per_generation} a generation"


CANDIDATES = [Choice(bf16, reuse) for bf16 in (False, True) for reuse in (1, 2)]


@dataclass(frozen=True)
class Run:
    """One run: throughput, and mean reward against rollouts seen.

    `rewards` are those of groups whose rewards differ, one entry per update.
    """

    samples_per_s: float
    seen_per_s: float
    seen: tuple[int, ...]
    rewards: tuple[float, ...]


def shared(steps: int) -> list[str]:
    """The settings of both sides, as overrides of the tiny recipe."""
    return [
        f"rl.steps={steps}",
        f"rl.prompts_per_step={PROMPTS}",
        f"rl.group_size={GROUP}",
        "rl.kl_coef=0",
        "rl.min_lr_ratio=0",
    ]


def run_ours(model: str, steps: int, overrides: Sequence[str]) -> Run:
    """One RL stage of the recipe."""
    return our_run(run_rl(model, *shared(steps), *overrides))


def our_run(run: RLRun) -> Run:
    """Figures of a stage; zero-variance groups count as seen, but not as trained on."""
    trained = [step["rl/groups_trained"] * GROUP for step in run.steps]
    surplus = [step["rl/groups_zero_variance"] * GROUP for step in run.steps]
    seen = [int(t + s) for t, s in zip(trained, surplus, strict=True)]
    seconds = sum(step["time/step_s"] for step in run.steps[WARM:])
    return Run(
        sum(trained[WARM:]) / seconds,
        sum(seen[WARM:]) / seconds,
        tuple(accumulate(seen)),
        tuple(step["rl/reward"] for step in run.steps),
    )


def run_trl(
    model: str, steps: int, trl_dir: Path, choice: Choice, overrides: Sequence[str] = ()
) -> Run:
    """One run of TRL."""
    given = [*shared(steps), *overrides]
    options = {"model": model, "overrides": given, "threads": TRL_THREADS, **vars(choice)}
    env = TRL_ENV | {"PYTHONPATH": f"{trl_dir}:{ROOT}"}
    lines = json_lines("benchmarks.trl_side", json.dumps(options), env=env)
    if len(lines) != steps:
        sys.exit(f"TRL made {len(lines)} of {steps} updates")
    return trl_run(lines)


def trl_run(lines: Sequence[Record]) -> Run:
    """Figures of a run, from the lines it printed after each update."""
    rate = BATCH * (len(lines) - WARM) / (lines[-1]["at"] - lines[WARM - 1]["at"])
    scored = [line for line in lines if line["reward"] is not None]
    seen = tuple(BATCH * int(line["step"]) for line in scored)
    return Run(rate, rate, seen, tuple(line["reward"] for line in scored))


def ensure_trl(directory: Path) -> str:
    """Install TRL into `directory` unless it is there; returns its version."""
    if not (directory / "trl").is_dir():
        print(f"installing {TRL} into {directory}, without dependencies", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", str(directory), TRL, "accelerate"], check=True)
    return next(directory.glob("trl-*.dist-info")).name.split("-")[1].removesuffix(".dist")


def equal_parts(end: int) -> list[int]:
    """Edges of `CURVE_POINTS` equal parts of so many rollouts."""
    return [end * i // CURVE_POINTS for i in range(CURVE_POINTS + 1)]


def curve(runs: Sequence[Run], edges: Sequence[int]) -> list[float | None]:
    """Mean reward of all updates of all runs between neighboring counts of rollouts seen."""
    means: list[float | None] = []
    for low, high in pairwise(edges):
        inside = [
            r for run in runs for s, r in zip(run.seen, run.rewards, strict=True) if low < s <= high
        ]
        means.append(round(statistics.mean(inside), 3) if inside else None)
    return means


def render_curve(points: Record) -> str:
    """Both learning curves side by side; a point is a mean, or a mean with its band."""
    lines = [f"{'rollouts seen':>14}{'BARD':>15}{'TRL':>15}   mean reward of groups that vary"]

    def cell(value: Any) -> str:
        if value is None:
            return f"{'-':>15}"
        if isinstance(value, float):
            return f"{value:15.3f}"
        return f"{value[0]:8.3f} ± {value[1]:.3f}"

    for seen, ours, theirs in zip(points["seen"], points["bard"], points["trl"], strict=True):
        lines.append(f"{seen:14,}{cell(ours)}{cell(theirs)}")
    return "\n".join(lines)


def settings(version: str, choice: Choice) -> Record:
    """TRL's part of the record."""
    return {"version": version, "threads": TRL_THREADS, **vars(choice)}
