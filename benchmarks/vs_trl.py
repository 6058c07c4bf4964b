"""The whole RL loop in samples/s against TRL's GRPOTrainer, on the same task and machine.

    python -m benchmarks.vs_trl [--repeats 5] [--steps 60] [--model DIR] [--json FILE] [--plot FILE]

Both train the same short student on the same questions and budgets in the same order, with the same
group size, token limit, number of updates, optimizer, clipping and reward functions, no KL term,
and both have all cores. TRL generates with transformers, the fastest of its backends that runs on a
CPU; number format and size of its generation batch are the fastest of those in `CANDIDATES`, found
anew by each run of this script. Runs alternate. TRL is not part of the environment: it is installed
without its dependencies into `--trl-dir` when it is not there.

samples/s counts the rollouts that an update was made of, and the time from the end of update `WARM`
to the end of the last. TRL puts groups of equal rewards into its updates, BARD does not and samples
others instead; `ratio_seen` counts those too. The last line printed is one JSON object.

    python -m benchmarks.vs_trl --curve DIR [--steps 100] [--json FILE] [--plot FILE]

adds one pair of runs with the next seed to those kept in DIR, and compares what both learn from the
same number of rollouts: mean reward of the groups whose rewards differ, against rollouts seen, with
a 95 % band over the seeds. `ratio` is BARD's mean over TRL's over the whole curve, `difference`
BARD's less TRL's, seed by seed, with its band. `by_updates` is the same against rollouts trained
on: TRL counts groups of equal rewards as trained on, so that BARD, which replaces them, has seen
more by then.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bard_ray.metrics import read_metrics
from bard_ray.plotting import SERIES, one_panel, save_figure
from benchmarks.common import (
    ROOT,
    child_env,
    finish,
    machine,
    run_recipe,
    spread,
    trained_student,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WARM = 5
TRL = "trl==1.16.*"
TARGET = 5.0
GROUP, PROMPTS = 8, 8
CANDIDATES = [
    {"bf16": bf16, "steps_per_generation": reuse} for bf16 in (False, True) for reuse in (1, 2)
]
CURVE_POINTS = 8
# Student's t for a two-sided band of 95 % by degrees of freedom, from 1 on.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
# Two threads that sleep while they wait: spinning ones are up to 20 times slower beside anything.
TRL_THREADS = 2
TRL_ENV = {
    "OMP_NUM_THREADS": str(TRL_THREADS),
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True)
class Run:
    """One run: throughput, and mean reward against rollouts seen.

    `rewards` are those of groups whose rewards differ, one an update.
    """

    samples_per_s: float
    seen_per_s: float
    seen: tuple[int, ...]
    rewards: tuple[float, ...]


def shared(steps: int) -> list[str]:
    """What both sides are told, as overrides of the tiny recipe."""
    return [
        f"rl.steps={steps}",
        f"rl.prompts_per_step={PROMPTS}",
        f"rl.group_size={GROUP}",
        "rl.kl_coef=0",
        "rl.min_lr_ratio=0",
    ]


def run_ours(model: str, steps: int, overrides: Sequence[str]) -> Run:
    """One RL stage of the recipe in a process of its own."""
    stages = [f"{name}.enabled=false" for name in ("base", "sft_full", "sft", "evaluate")]
    with tempfile.TemporaryDirectory() as directory:
        where = [f"run.dir={directory}", "run.name=ours", f"student.path={model}"]
        run_recipe(*stages, *where, *shared(steps), *overrides)
        records = read_metrics(Path(directory) / "ours" / "metrics.jsonl")
    records = [r for r in records if r["stage"] == "rl"]
    trained = [r["rl/groups_trained"] * GROUP for r in records]
    seen = [t + r["rl/groups_zero_variance"] * GROUP for t, r in zip(trained, records, strict=True)]
    seconds = sum(r["time/step_s"] for r in records[WARM:])
    totals = [int(sum(seen[: i + 1])) for i in range(len(seen))]
    return Run(
        sum(trained[WARM:]) / seconds,
        sum(seen[WARM:]) / seconds,
        tuple(totals),
        tuple(r["rl/reward"] for r in records),
    )


def run_trl(
    model: str, steps: int, trl_dir: Path, choice: dict[str, Any], overrides: Sequence[str] = ()
) -> Run:
    """One run of TRL in a process of its own."""
    given = [*shared(steps), *overrides]
    options = {"model": model, "overrides": given, "threads": TRL_THREADS, **choice}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.trl_side", json.dumps(options)],
        cwd=ROOT,
        env=child_env(TRL_ENV | {"PYTHONPATH": f"{trl_dir}:{ROOT}"}),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(x) for x in done.stdout.splitlines() if x.startswith('{"step"')]
    if done.returncode or len(lines) != steps:
        sys.exit(f"TRL failed:\n{done.stderr[-2000:]}")
    batch = GROUP * PROMPTS
    rate = batch * (steps - WARM) / (lines[-1]["at"] - lines[WARM - 1]["at"])
    scored = [line for line in lines if line["reward"] is not None]
    return Run(
        rate,
        rate,
        tuple(batch * int(line["step"]) for line in scored),
        tuple(line["reward"] for line in scored),
    )


def ensure_trl(directory: Path) -> str:
    """Install TRL into `directory` unless it is there; returns its version."""
    if not (directory / "trl").is_dir():
        print(f"installing {TRL} into {directory}, without dependencies", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", str(directory), TRL, "accelerate"], check=True)
    return next(directory.glob("trl-*.dist-info")).name.split("-")[1].removesuffix(".dist")


def fastest(model: str, trl_dir: Path, steps: int) -> tuple[dict[str, Any], dict[str, float]]:
    """The candidate settings with which TRL trains most samples a second."""
    rates = {
        json.dumps(choice): round(run_trl(model, steps, trl_dir, choice).samples_per_s, 1)
        for choice in CANDIDATES
    }
    best: dict[str, Any] = json.loads(max(rates, key=lambda name: rates[name]))
    return best, rates


def curve(runs: Sequence[Run], edges: Sequence[int]) -> list[float | None]:
    """Mean reward of all updates of all runs between neighboring counts of rollouts seen."""
    means: list[float | None] = []
    for low, high in pairwise(edges):
        inside = [
            r for run in runs for s, r in zip(run.seen, run.rewards, strict=True) if low < s <= high
        ]
        means.append(round(statistics.mean(inside), 3) if inside else None)
    return means


def band(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean of a few values, and half of its 95 % band (Student's t); None without two of them."""
    if len(values) < 2:
        return None
    half = T_95[min(len(values) - 1, len(T_95)) - 1] * statistics.stdev(values)
    return round(statistics.mean(values), 4), round(half / math.sqrt(len(values)), 4)


def compare_curves(pairs: Sequence[tuple[Run, Run]]) -> dict[str, Any]:
    """Both curves with bands over seeds, and the paired difference of their means."""
    end = min(run.seen[-1] for pair in pairs for run in pair)
    edges = [end * i // CURVE_POINTS for i in range(CURVE_POINTS + 1)]
    by_seed = [[curve([run], edges) for run in pair] for pair in pairs]

    def points(side: int) -> list[tuple[float, float] | None]:
        columns = zip(*(curves[side] for curves in by_seed), strict=True)
        return [band([v for v in column if v is not None]) for column in columns]

    means = [[statistics.mean(v for v in c if v is not None) for c in both] for both in by_seed]
    return {
        "seeds": len(pairs),
        "ratio": round(sum(a for a, _ in means) / sum(b for _, b in means), 3),
        "difference": band([a - b for a, b in means]),
        "means": [[round(mean, 4) for mean in both] for both in means],
        "curve": {"seen": edges[1:], "bard": points(0), "trl": points(1)},
    }


def add_to_curves(directory: Path, args: argparse.Namespace, model: str) -> dict[str, Any]:
    """Run one more pair, keep it in `directory`, and compare all that are there."""
    directory.mkdir(parents=True, exist_ok=True)
    files = sorted(directory.glob("seed-*.json"))
    seed = [f"run.seed={len(files)}"]
    pair = [
        run_ours(model, args.steps, [*seed, *args.overrides]),
        run_trl(model, args.steps, args.trl_dir, CANDIDATES[0], seed),
    ]
    file = directory / f"seed-{len(files)}.json"
    file.write_text(json.dumps([asdict(run) for run in pair]))
    kept = [json.loads(each.read_text()) for each in [*files, file]]
    runs = [(Run(**ours), Run(**theirs)) for ours, theirs in kept]
    by_updates = [(trained_on(ours), theirs) for ours, theirs in runs]
    return compare_curves(runs) | {"by_updates": compare_curves(by_updates)}


def trained_on(run: Run) -> Run:
    """A run of ours with the rollouts it was trained on in place of those it saw."""
    batch = GROUP * PROMPTS
    return replace(run, seen=tuple(batch * (i + 1) for i in range(len(run.rewards))))


def summary(ours: Sequence[Run], theirs: Sequence[Run]) -> dict[str, Any]:
    """Medians, ratios and both learning curves."""
    rate = {
        name: spread([r.samples_per_s for r in runs])
        for name, runs in (("bard", ours), ("trl", theirs))
    }
    pairs = list(zip(ours, theirs, strict=True))
    end = min(min(r.seen[-1] for r in ours), min(r.seen[-1] for r in theirs))
    edges = [end * i // CURVE_POINTS for i in range(CURVE_POINTS + 1)]
    return {
        "ratio": round(statistics.median(a.samples_per_s / b.samples_per_s for a, b in pairs), 2),
        "ratio_seen": round(statistics.median(a.seen_per_s / b.seen_per_s for a, b in pairs), 2),
        "samples_per_s": rate,
        "curve": {"seen": edges[1:], "bard": curve(ours, edges), "trl": curve(theirs, edges)},
    }


def print_curve(figures: dict[str, Any]) -> None:
    """Both learning curves side by side."""
    print(f"\n{'rollouts seen':>14}{'BARD':>15}{'TRL':>15}   mean reward of groups that vary")
    points = figures["curve"]

    def cell(value: Sequence[float] | float | None) -> str:
        if value is None:
            return f"{'-':>15}"
        if isinstance(value, float):
            return f"{value:15.3f}"
        return f"{value[0]:8.3f} ± {value[1]:.3f}"

    for seen, ours, theirs in zip(points["seen"], points["bard"], points["trl"], strict=True):
        print(f"{seen:14,}{cell(ours)}{cell(theirs)}")


def draw_curves(path: Path, figures: dict[str, Any]) -> None:
    """Reward against rollouts seen, of both."""
    points = figures["curve"]

    def draw(axes: Axes) -> None:
        for name, color in zip(("bard", "trl"), SERIES, strict=False):
            pairs = [v if isinstance(v, tuple) else (v, 0.0) for v in points[name]]
            values = [float("nan") if v is None else v for v, _ in pairs]
            axes.plot(points["seen"], values, marker="o", color=color, label=name.upper())
            low, high = (
                [v + sign * half for v, (_, half) in zip(values, pairs, strict=True)]
                for sign in (-1, 1)
            )
            axes.fill_between(points["seen"], low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_xlabel("rollouts seen")
        axes.set_ylabel("mean reward of groups that vary")

    save_figure(path, one_panel(draw))


def main() -> int:
    """Calibrate TRL, alternate runs, print."""
    args = _arguments()
    facts, model = machine(), args.model or trained_student()
    version = ensure_trl(args.trl_dir)
    if args.curve:
        figures = add_to_curves(args.curve, args, model)
        print_curve(figures)
        if args.plot:
            draw_curves(args.plot, figures)
        rest = {"steps": args.steps, "overrides": args.overrides, "version": version}
        finish({"benchmark": "vs_trl_curve", **facts, **figures, **rest}, args.json)
        return 0
    choice, rates = (CANDIDATES[0], {}) if args.quick else fastest(model, args.trl_dir, 12 + WARM)
    ours: list[Run] = []
    theirs: list[Run] = []
    for repeat in range(args.repeats):
        ours.append(run_ours(model, args.steps, args.overrides))
        theirs.append(run_trl(model, args.steps, args.trl_dir, choice))
        a, b = ours[-1].samples_per_s, theirs[-1].samples_per_s
        print(f"repeat {repeat + 1}: BARD {a:6.1f}  TRL {b:6.1f} samples/s  ratio {a / b:.2f}")
    figures = summary(ours, theirs)
    print_curve(figures)
    if args.plot:
        draw_curves(args.plot, figures)
    settings = {"version": version, "threads": TRL_THREADS, **choice, "tried": rates}
    record = {"benchmark": "vs_trl", **facts, "target": TARGET, **figures, "trl": settings}
    record |= {"steps": args.steps, "repeats": args.repeats, "overrides": args.overrides}
    finish(record, args.json)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="field=value", help="of BARD only")
    parser.add_argument("--model", help="model directory; default: a short student, made once")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="updates of each run")
    parser.add_argument("--trl-dir", type=Path, default=ROOT / "build" / "trl")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--curve", type=Path, metavar="DIR", help="one more seed of the curves")
    parser.add_argument("--quick", action="store_true", help="one repeat of 10 updates")
    args = parser.parse_intermixed_args()
    if args.quick:
        args.repeats, args.steps = 1, 10
    return args


if __name__ == "__main__":
    sys.exit(main())
