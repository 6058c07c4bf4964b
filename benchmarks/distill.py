"""Records/s of every step of the data pipeline, and where its time goes.

    python -m benchmarks.distill [--quick] [--json FILE] [field=value ...]

Makes the corpus of the tiny recipe once more, every step of it, the student's pass rate and the
choice of diverse chains included, with chains of one teacher; then makes it again from what was
kept. Seconds of a step are the wall time in which at least one of its chunks was in work; steps
overlap. `ratio` is the time of the second run of the stage over that of the first. The last line
printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import CACHE, finish, machine, run_recipe
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


def stage(root: Path, name: str, overrides: list[str]) -> tuple[float, list[dict[str, Any]]]:
    """Wall seconds of the stage `distill`, and what its report says of the steps."""
    off = [f"{section}.enabled=false" for section in ("sft_full", "sft", "rl", "evaluate")]
    given = [json_override("distill.teachers", TEACHERS), json_override("distill.steps", STEPS)]
    where = [f"run.dir={root}", f"run.name={name}", "run.goal=corpus"]
    run_recipe(*where, *off, *given, *overrides)
    state = json.loads((root / name / "state.json").read_text())
    report = json.loads((root / name / "data" / "report.json").read_text())
    return float(state["stages"]["distill"]["wall_s"]), report["steps"]


def render(steps: list[dict[str, Any]]) -> str:
    """One line for each step."""
    total = sum(step["seconds"] for step in steps)
    lines = [f"{'step':18}{'in':>9}{'kept':>9}{'records/s':>12}{'seconds':>9}{'share':>8}"]
    lines += [
        f"{s['name']:18}{s['records']:>9,}{s['kept']:>9,}{s['records_per_s'] or 0:>12,.0f}"
        f"{s['seconds']:>9.1f}{s['seconds'] / total:>8.0%}"
        for s in steps
    ]
    return "\n".join(lines)


def main() -> int:
    """Run, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    parser.add_argument("--quick", action="store_true", help="few questions: does it work at all")
    parser.add_argument("--json", type=Path)
    args = parser.parse_intermixed_args()
    size = ["distill.questions=200", "base.rows=500"] if args.quick else ["distill.questions=4000"]
    facts, root = machine(), CACHE / "distill"
    shutil.rmtree(root, ignore_errors=True)
    first_s, steps = stage(root, "first", [*size, *args.overrides])
    again_s, kept = stage(root, "again", [*size, *args.overrides])
    print(render(steps))
    shown = ("name", "records", "kept", "seconds", "records_per_s")
    result = {
        "benchmark": "distill",
        **facts,
        "ratio": round(again_s / first_s, 4),
        "stage_s": first_s,
        "again_s": again_s,
        "reused": all(step["reused"] == step["parts"] for step in kept),
        "steps": [{name: step[name] for name in shown} for step in steps],
        "overrides": args.overrides,
    }
    finish(result, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
