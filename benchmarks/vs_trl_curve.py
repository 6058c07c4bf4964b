"""What BARD and TRL's GRPOTrainer learn from the same number of rollouts, over several seeds.

    python -m benchmarks.vs_trl_curve [--keep DIR] [--steps 60] [--json FILE] [--plot FILE]

Adds one pair of runs with the next seed to those kept in DIR, and compares all of them: mean reward
of the groups whose rewards differ, against rollouts seen, with a 95 % band over the seeds.
`benchmarks/trl_runs.py` says what both sides share. `difference` is BARD's mean less TRL's, seed by
seed, with its band. `by_updates` is the same against rollouts trained on: TRL counts groups of
equal rewards as trained on, so that BARD, which replaces them, has seen more by then. The last line
printed is one JSON object; `ratio` is BARD's mean over TRL's over the whole curve.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import trl_runs as trl
from benchmarks.common import CACHE, Arguments, Benchmark, Option, Record, require_steps
from benchmarks.student import student_path
from benchmarks.trl_runs import Run
from benchmarks.vs_trl import draw

# Student's t for a two-sided band of 95 % by degrees of freedom, from 1 on.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

Pair = tuple[Run, Run]


@dataclass(frozen=True)
class Pairs:
    """Runs of both sides, one pair a seed, and version and settings of TRL."""

    runs: list[Pair]
    trl: Record


def measure(arguments: Arguments) -> Pairs:
    """Run one more pair and keep it."""
    require_steps(arguments.steps, trl.WARM)
    model, version = student_path(arguments.model), trl.ensure_trl(arguments.trl_dir)
    keep: Path = arguments.keep
    keep.mkdir(parents=True, exist_ok=True)
    files = sorted(keep.glob("seed-*.json"))
    seed = f"run.seed={len(files)}"
    pair = [
        trl.run_ours(model, arguments.steps, [seed, *arguments.overrides]),
        trl.run_trl(model, arguments.steps, arguments.trl_dir, trl.CANDIDATES[0], [seed]),
    ]
    (keep / f"seed-{len(files)}.json").write_text(json.dumps([asdict(run) for run in pair]))
    return Pairs(read_pairs(keep), trl.settings(version, trl.CANDIDATES[0]))


def read_pairs(keep: Path) -> list[Pair]:
    """The kept pairs in the order of their seeds."""
    files = sorted(keep.glob("seed-*.json"), key=lambda f: int(f.stem.partition("-")[2]))
    kept = [json.loads(file.read_text()) for file in files]
    return [(Run(**ours), Run(**theirs)) for ours, theirs in kept]


def summarize(found: Pairs) -> Record:
    """Both curves against rollouts seen, and against rollouts trained on."""
    by_updates = [(trained_on(ours), theirs) for ours, theirs in found.runs]
    return {**compare(found.runs), "by_updates": compare(by_updates), "trl": found.trl}


def trained_on(run: Run) -> Run:
    """A run of ours with the rollouts it was trained on in place of those it saw."""
    return replace(run, seen=tuple(trl.BATCH * (i + 1) for i in range(len(run.rewards))))


def compare(pairs: Sequence[Pair]) -> Record:
    """Both curves with bands over seeds, and the paired difference of their means."""
    edges = trl.equal_parts(min(run.seen[-1] for pair in pairs for run in pair))
    by_seed = [[trl.curve([run], edges) for run in pair] for pair in pairs]

    def points(side: int) -> list[list[float] | None]:
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


def band(values: Sequence[float]) -> list[float] | None:
    """Mean of a few values, and half of its 95 % band (Student's t); None without two of them."""
    if len(values) < 2:
        return None
    half = T_95[min(len(values) - 1, len(T_95)) - 1] * statistics.stdev(values)
    return [round(statistics.mean(values), 4), round(half / math.sqrt(len(values)), 4)]


def render(record: Record) -> str:
    """Both curves and their difference."""
    difference = record["difference"]
    band_text = "-" if difference is None else f"{difference[0]:+.4f} ± {difference[1]:.4f}"
    last = f"{record['seeds']} seeds, ratio {record['ratio']:.3f}, difference {band_text}"
    return "\n".join([trl.render_curve(record["curve"]), last])


KEEP = Option("keep", CACHE / "vs_trl", CACHE / "vs_trl-quick", "directory of the pairs", Path)
OPTIONS = (KEEP, *trl.OPTIONS)
BENCHMARK = Benchmark(
    "vs_trl_curve", __doc__, measure, summarize, render, OPTIONS, overrides=True, draw=draw
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
