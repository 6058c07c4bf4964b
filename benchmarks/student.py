"""A short-lived student, and RL runs that start from it."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bard_ray.metrics import read_metrics
from benchmarks.children import run_recipe
from benchmarks.common import CACHE, Option

# Enough supervised steps for groups to have reward variance.
SHORT_STUDENT = (
    "base.rows=4000",
    "sft_full.enabled=false",
    "distill.questions=2000",
    "distill.teacher=clean",
    "evaluate.enabled=false",
)
# No supervised stage, so no corpus either, and no evaluation.
ONLY_RL = (
    "base.enabled=false",
    "sft_full.enabled=false",
    "sft.enabled=false",
    "evaluate.enabled=false",
)


MODEL = Option("model", help="directory; none: a short-lived student, trained once", parse=Path)


def student_path(model: Path | None) -> str:
    """The given model directory, or that of the short student.

    The latter is trained on first use and stored under `build/`.
    """
    if model is not None:
        return str(model.resolve())
    path = CACHE / "student" / "checkpoints" / "sft"
    if not (path / "config.json").exists():
        print("training a short-lived student, once (about a minute)", file=sys.stderr)
        where = [f"run.dir={CACHE}", "run.name=student", "rl.enabled=false"]
        run_recipe(*SHORT_STUDENT, *where)
    return str(path)


@dataclass(frozen=True)
class RLRun:
    """Results of a finished RL stage: one metrics record per step, and facts of the stage."""

    steps: list[dict[str, Any]]
    facts: Mapping[str, Any]


def run_rl(student: str, *overrides: str) -> RLRun:
    """Run the RL stage of the tiny recipe in a separate process."""
    with tempfile.TemporaryDirectory() as directory:
        where = [f"run.dir={directory}", "run.name=rl", f"student.path={student}"]
        run_recipe(*ONLY_RL, *where, *overrides)
        return read_rl(Path(directory) / "rl")


def read_rl(run: Path) -> RLRun:
    """The RL stage of a finished run."""
    steps = [r for r in read_metrics(run / "metrics.jsonl") if r["stage"] == "rl"]
    stages = json.loads((run / "state.json").read_text())["stages"]
    return RLRun(steps, stages["rl"]["facts"])
