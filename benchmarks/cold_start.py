"""Seconds from the command to the first gradient step and to the first RL step, by part.

    python -m benchmarks.cold_start [--repeats 3] [--json FILE]

Two starts of the tiny recipe, each in fresh processes:

- `gradient`: from starting the command until the first optimizer step, which is that of the first
  supervised stage, is in `metrics.jsonl`;
- `rl`: the same with a trained student and only the RL stage, until the first RL step. No teacher
  is selected (`distill.teacher=clean`), because that belongs to the data pipeline.

`parts` are the seconds of the same start in an instrumented script (`benchmarks.start_parts`):
imports, Ray and placement are sequential; `learner` and `engines` run concurrently and count from
the time all actors were requested; `load` and `step` are the first ones. `data` is the time of the
command's own data stages before that. A supervised stage does not wait for the engines, RL waits
for both. The last line printed is one JSON object; `ratio` is the time to the first gradient step
over the sum of its parts that cannot overlap, `rl.ratio` the same for RL.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.children import child_env, json_lines, recipe_command
from benchmarks.common import ROOT, Arguments, Benchmark, Clock, Option, Record, medians, note
from benchmarks.student import MODEL, ONLY_RL, student_path

Kind = Literal["gradient", "rl"]
KINDS: tuple[Kind, ...] = ("gradient", "rl")
POLL_S = 0.02
LIMIT_S = 300.0
STOP_S = 60.0
IN_TURN = ("imports", "data", "ray", "placement", "load", "step")


@dataclass(frozen=True)
class Start:
    """One start of the command, and the parts of the same start in a script.

    Attributes:
        total_s: seconds until the first metrics record was on disk.
        parts: seconds by part.
    """

    total_s: float
    parts: Mapping[str, float]


def measure(arguments: Arguments) -> dict[Kind, list[Start]]:
    """Both kinds of start in turn."""
    model = student_path(arguments.model)
    found: dict[Kind, list[Start]] = {kind: [] for kind in KINDS}
    for _ in range(arguments.repeats):
        for kind in KINDS:
            start = measure_start(kind, model)
            found[kind].append(start)
            note(f"first {kind} step after {start.total_s:.1f} s: {start.parts}")
    return found


def measure_start(kind: Kind, model: str) -> Start:
    """One start, as a command and as a script."""
    overrides = [*ONLY_RL, f"student.path={model}"] if kind == "rl" else []
    total_s, data_s = until_first_record(overrides)
    (parts,) = json_lines("benchmarks.start_parts", kind, repr(time.time()), model)
    return Start(total_s, {"data": data_s, **parts})


def until_first_record(overrides: Sequence[str]) -> tuple[float, float]:
    """Seconds from starting the recipe to its first metrics record, and those of its data stages.

    The recipe is stopped afterward.
    """
    with tempfile.TemporaryDirectory() as directory:
        run, clock = Path(directory) / "cold", Clock()
        process = subprocess.Popen(
            recipe_command(f"run.dir={directory}", "run.name=cold", *overrides),
            cwd=ROOT,
            env=child_env(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _await_record(run / "metrics.jsonl", process, clock)
            total_s = clock.seconds
            stages = json.loads((run / "state.json").read_text())["stages"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)
    return total_s, round(sum(stage["wall_s"] for stage in stages.values()), 2)


def _await_record(path: Path, process: subprocess.Popen[bytes], clock: Clock) -> None:
    while not (path.exists() and path.stat().st_size):
        if process.poll() is not None:
            assert process.stderr is not None
            sys.exit(f"the recipe ended too early:\n{process.stderr.read().decode()[-2000:]}")
        if clock.seconds > LIMIT_S:
            sys.exit(f"no step within {LIMIT_S:g} s")
        time.sleep(POLL_S)


def in_turn_s(kind: Kind, parts: Mapping[str, float]) -> float:
    """Sum of the parts that cannot overlap: a supervised stage waits for the learner only."""
    learner, engines = parts["learner"], parts["engines"]
    up_s = learner if kind == "gradient" else max(learner, engines)
    return up_s + sum(parts[name] for name in IN_TURN)


def summarize(found: Mapping[Kind, Sequence[Start]]) -> Record:
    """Medians over the repeats."""
    kinds: dict[str, Record] = {}
    for kind, starts in found.items():
        parts = medians([start.parts for start in starts], 2)
        (total_s,) = medians([{"total_s": start.total_s} for start in starts], 2).values()
        ratio = round(total_s / in_turn_s(kind, parts), 3)
        kinds[kind] = {"total_s": total_s, "ratio": ratio, "parts": parts}
    return {"ratio": kinds["gradient"]["ratio"], **kinds}


def render(record: Record) -> str:
    """One column per start, one row per part."""
    names = record["gradient"]["parts"]
    lines = [f"{'seconds to the first':22}" + "".join(f"{kind + ' step':>16}" for kind in KINDS)]
    lines += [
        f"  {name:20}" + "".join(f"{record[kind]['parts'][name]:16.2f}" for kind in KINDS)
        for name in names
    ]
    for name in ("total_s", "ratio"):
        lines.append(f"{name:22}" + "".join(f"{record[kind][name]:16.2f}" for kind in KINDS))
    return "\n".join(lines)


OPTIONS = (Option("repeats", 3, quick=1), MODEL)
BENCHMARK = Benchmark("cold_start", __doc__, measure, summarize, render, OPTIONS)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
