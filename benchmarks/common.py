"""What the benchmarks share: facts of the machine, a trained student, child processes."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "build" / "benchmarks"  # not in git
BUSY_LOAD = 0.5  # load average above which the machine counts as busy before a benchmark starts

# A short-lived student: enough supervised steps for groups to have reward variance.
SHORT_STUDENT = [
    "base.rows=4000",
    "sft_full.enabled=false",
    "distill.questions=2000",
    "distill.teacher=clean",
    "evaluate.enabled=false",
]


def machine() -> dict[str, object]:
    """Hardware, date and how busy the machine was when this was called."""
    model, load = "unknown", os.getloadavg()[0]
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": model,
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "load_before": round(load, 2),
        "busy": load > BUSY_LOAD,  # others were at work: trust the ratios only
    }


def finish(record: Mapping[str, Any], path: Path | None) -> None:
    """Write the record, and print it as the last line."""
    if path is not None:
        path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


def trained_student() -> str:
    """Model directory of the short student, trained on first use and kept under `build/`."""
    path = CACHE / "student" / "checkpoints" / "sft"
    if not (path / "config.json").exists():
        print("training a short-lived student, once (about a minute)", file=sys.stderr)
        where = [f"run.dir={CACHE}", "run.name=student", "rl.enabled=false"]
        run_recipe(*SHORT_STUDENT, *where)
    return str(path)


def recipe_command(*overrides: str) -> list[str]:
    """The tiny recipe as a command."""
    return [sys.executable, "-m", "recipes.bard_tiny", *overrides]


def child_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with the checkout on the path and no given cluster.

    Ray gives its workers a low priority; here they get that of the processes they are compared
    with, else a neighbor on the machine would slow down one side only.
    """
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    paths = [str(ROOT), *env.get("PYTHONPATH", "").split(os.pathsep)]
    env |= {"PYTHONPATH": os.pathsep.join(p for p in paths if p), "RAY_worker_niceness": "0"}
    return env | dict(extra or {})


def run_recipe(*overrides: str) -> None:
    """Run the tiny recipe in a process of its own; what it says is shown only if it fails."""
    done = subprocess.run(
        recipe_command(*overrides),
        cwd=ROOT,
        env=child_env(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the recipe failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, least and largest of repeats."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


class Child:
    """A contestant in a process of its own.

    It answers one JSON line for each it is sent, and sleeps in between.
    """

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], cores: set[int]
    ) -> None:
        self.name = name
        self._log = CACHE / f"{name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env=child_env(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    def ask(self, question: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send one line, if any, and wait for the next answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if question is not None:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        tail = "\n".join(self._log.read_text().splitlines()[-8:])
        sys.exit(f"contestant {self.name} ended without an answer; {self._log} ends with:\n{tail}")

    def close(self) -> None:
        """Tell it to stop, and see that it does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """A contestant's side: say that it is ready, then answer until the input ends."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


class Clock:
    """Wall seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start
