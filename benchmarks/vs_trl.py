"""The whole RL loop in samples/s against TRL's GRPOTrainer, on the same task and machine.

    python -m benchmarks.vs_trl [--repeats 5] [--steps 60] [--model DIR] [--json FILE] [--plot FILE]

`benchmarks/trl_runs.py` says what both sides share. TRL's number format and the size of its
generation batch are the fastest of `CANDIDATES`, found again by each run of this script. Runs
alternate. TRL is not part of the environment: it is installed without its dependencies into
`--trl-dir` when it is not there.

samples/s counts the rollouts that an update was made of, and the time from the end of update `WARM`
to the end of the last. TRL puts groups of equal rewards into its updates, BARD does not and samples
others instead; `ratio_seen` counts those too. `curve` is the mean reward of groups that vary
against rollouts seen; `vs_trl_curve` compares it over several seeds. The last line printed is one
JSON object; `ratio` is BARD's samples/s over TRL's, median over the repeats.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bard_ray.plotting import SERIES, one_panel, save_figure
from benchmarks import trl_runs as trl
from benchmarks.common import (
    Arguments,
    Benchmark,
    Option,
    Record,
    note,
    ratio_of,
    require_steps,
    spread,
)
from benchmarks.student import student_path
from benchmarks.trl_runs import Choice, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CALIBRATION_STEPS = 12 + trl.WARM


@dataclass(frozen=True)
class Compared:
    """Runs of both sides, one pair a repeat.

    Attributes:
        ours, theirs: the runs.
        trl: version and settings of TRL.
        tried: samples/s of each candidate setting of TRL; empty if none was tried.
    """

    ours: list[Run]
    theirs: list[Run]
    trl: Record
    tried: Mapping[str, float]


def measure(arguments: Arguments) -> Compared:
    """Find TRL's fastest settings, then run both sides in turn."""
    require_steps(arguments.steps, trl.WARM)
    model, version = student_path(arguments.model), trl.ensure_trl(arguments.trl_dir)
    choice, tried = trl.CANDIDATES[0], dict[str, float]()
    if not arguments.quick:
        choice, tried = fastest(model, arguments.trl_dir)
    ours: list[Run] = []
    theirs: list[Run] = []
    for repeat in range(arguments.repeats):
        ours.append(trl.run_ours(model, arguments.steps, arguments.overrides))
        theirs.append(trl.run_trl(model, arguments.steps, arguments.trl_dir, choice))
        a, b = ours[-1].samples_per_s, theirs[-1].samples_per_s
        note(f"repeat {repeat + 1}: BARD {a:.1f}, TRL {b:.1f} samples/s")
    return Compared(ours, theirs, trl.settings(version, choice), tried)


def fastest(model: str, trl_dir: Path) -> tuple[Choice, dict[str, float]]:
    """The candidate settings with which TRL trains most samples a second."""
    rates = {
        choice: round(trl.run_trl(model, CALIBRATION_STEPS, trl_dir, choice).samples_per_s, 1)
        for choice in trl.CANDIDATES
    }
    best = max(rates, key=lambda choice: rates[choice])
    return best, {choice.name: rate for choice, rate in rates.items()}


def summarize(found: Compared) -> Record:
    """Medians, ratios and both learning curves."""
    ours, theirs = found.ours, found.theirs
    rates = {
        name: [run.samples_per_s for run in runs]
        for name, runs in (("bard", ours), ("trl", theirs))
    }
    seen = ([run.seen_per_s for run in runs] for runs in (ours, theirs))
    edges = trl.equal_parts(min(run.seen[-1] for run in (*ours, *theirs)))
    return {
        "ratio": round(ratio_of(rates["bard"], rates["trl"]), 2),
        "ratio_seen": round(ratio_of(*seen), 2),
        "samples_per_s": {name: spread(values) for name, values in rates.items()},
        "curve": {
            "seen": edges[1:],
            "bard": trl.curve(ours, edges),
            "trl": trl.curve(theirs, edges),
        },
        "trl": {**found.trl, "tried": dict(found.tried)},
    }


def render(record: Record) -> str:
    """Rates, then both learning curves."""
    rates = record["samples_per_s"]
    lines = [f"{name.upper():5}{rates[name]['median']:9.1f} samples/s" for name in ("bard", "trl")]
    lines.append(f"ratio {record['ratio']:.2f}, of samples seen {record['ratio_seen']:.2f}")
    return "\n".join([*lines, "", trl.render_curve(record["curve"])])


def draw(path: Path, record: Record) -> None:
    """Reward against rollouts seen, of both sides, with a band where points have one."""
    points = record["curve"]

    def body(axes: Axes) -> None:
        for name, color in zip(("bard", "trl"), SERIES, strict=False):
            pairs = [v if isinstance(v, list | tuple) else (v, 0.0) for v in points[name]]
            values = [float("nan") if v is None else v for v, _ in pairs]
            axes.plot(points["seen"], values, marker="o", color=color, label=name.upper())
            low, high = (
                [v + sign * half for v, (_, half) in zip(values, pairs, strict=True)]
                for sign in (-1, 1)
            )
            axes.fill_between(points["seen"], low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_xlabel("rollouts seen")
        axes.set_ylabel("mean reward of groups that vary")

    save_figure(path, one_panel(body))


OPTIONS = (Option("repeats", 5, 1), *trl.OPTIONS)
BENCHMARK = Benchmark(
    "vs_trl", __doc__, measure, summarize, render, OPTIONS, target=5.0, overrides=True, draw=draw
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
