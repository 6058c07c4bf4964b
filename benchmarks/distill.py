"""Records/s of every step of the data pipeline, and its time by step.

    python -m benchmarks.distill [--quick] [--json FILE] [field=value ...]

Builds the corpus of the tiny recipe with chains of one teacher and all steps, including pass rates
of the student and selection of diverse chains; then builds it again from the stored outputs.
Seconds are summed over a step's chunks, several of which run or wait for an engine at a time. The
last line printed is one JSON object; `ratio` is the time of the second run of the stage over that
of the first.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.children import run_recipe
from benchmarks.common import CACHE, Arguments, Benchmark, Option, Record
from benchmarks.ded import json_override

STEPS: list[Any] = [
    {"teach": {"chains": 4}},
    "grade",
    "correct",
    "think_tags",
    {"length": {"max_tokens": 64}},
    "repetition",
    "near_duplicates",
    {"decontaminate": {"ngram": 64}},
    {"sample_student": {"samples": 4, "max_new_tokens": 60, "temperature": 1.0}},
    {"pass_rate": {"max_rate": 1.0}},
    {"diverse": {"keep": 2}},
]
TEACHERS = {"varied": {"backend": "exact", "slip": 0.03, "skip": 0.1, "recheck": 0.2}}
COLUMNS = ("name", "records", "kept", "seconds", "records_per_s")


@dataclass(frozen=True)
class StageRun:
    """Wall seconds of the stage `distill`, and the steps of its report."""

    wall_s: float
    steps: list[dict[str, Any]]


def measure(arguments: Arguments) -> tuple[StageRun, StageRun]:
    """Run the stage from scratch, then from the stored outputs of the first run."""
    root = CACHE / "distill"
    shutil.rmtree(root, ignore_errors=True)
    sizes = [f"distill.questions={arguments.questions}", f"base.rows={arguments.base_rows}"]
    given = [*sizes, *arguments.overrides]
    return run_stage(root, "first", given), run_stage(root, "again", given)


def run_stage(root: Path, name: str, overrides: list[str]) -> StageRun:
    """Build the recipe's corpus once, without training on it."""
    off = ["run.goal=corpus", "sft_full.enabled=false", "sft.enabled=false"]
    off += ["rl.enabled=false", "evaluate.enabled=false"]
    given = [json_override("distill.teachers", TEACHERS), json_override("distill.steps", STEPS)]
    run_recipe(f"run.dir={root}", f"run.name={name}", *off, *given, *overrides)
    return read_stage(root / name)


def read_stage(run: Path) -> StageRun:
    """The stage of a finished run."""
    state = json.loads((run / "state.json").read_text())
    report = json.loads((run / "data" / "report.json").read_text())
    return StageRun(float(state["stages"]["distill"]["wall_s"]), report["steps"])


def summarize(runs: tuple[StageRun, StageRun]) -> Record:
    """Both times, and the steps of the first run."""
    first, again = runs
    return {
        "ratio": round(again.wall_s / first.wall_s, 4),
        "stage_s": first.wall_s,
        "again_s": again.wall_s,
        "reused": all(step["reused"] == step["parts"] for step in again.steps),
        "steps": [{name: step[name] for name in COLUMNS} for step in first.steps],
    }


def render(record: Record) -> str:
    """One line per step."""
    total = sum(step["seconds"] for step in record["steps"])
    lines = [f"{'step':18}{'in':>9}{'kept':>9}{'records/s':>12}{'seconds':>9}{'share':>8}"]
    lines += [
        f"{s['name']:18}{s['records']:>9,}{s['kept']:>9,}{s['records_per_s'] or 0:>12,.0f}"
        f"{s['seconds']:>9.1f}{s['seconds'] / max(total, 1e-9):>8.0%}"
        for s in record["steps"]
    ]
    lines.append(f"stage {record['stage_s']:.1f} s, again {record['again_s']:.1f} s")
    return "\n".join(lines)


OPTIONS = (
    Option("questions", 4000, 200),
    Option("base_rows", 8000, 500, "rows of the base student's corpus"),
)
BENCHMARK = Benchmark("distill", __doc__, measure, summarize, render, OPTIONS, overrides=True)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
