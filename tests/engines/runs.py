"""Whole runs of the tiny recipe in processes of their own, for the tests that look at what a run
leaves behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARK = "BARD_TEST_MARK"
# Enough supervised training for groups to have reward variance, and few RL steps.
SMALL = [
    "base.rows=2500",
    "distill.questions=600",
    "distill.teacher=clean",
    "sft_full.enabled=false",
    "data.eval_questions=8",
    "evaluate.budgets=[8,24,30]",
    "rl.steps=6",
    "rl.prompts_per_step=4",
    "rl.warmup_steps=2",
    "verifier.cpus=0.1",
    "cluster.cpus=6",
    "cluster.object_store_mb=256",
]
TRACE = (
    "rl/reward",
    "rl/loss",
    "rl/grad_norm",
    "rl/kl",
    "rl/thinking_tokens",
    "rl/groups_zero_variance",
)


@dataclass
class Recipe:
    """One run directory and the commands run on it."""

    directory: Path
    name: str
    out: str = ""  # what a command printed, where a fixture keeps it

    @property
    def path(self) -> Path:
        return self.directory / self.name

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        self.mark = uuid.uuid4().hex
        where = [f"run.dir={self.directory}", f"run.name={self.name}"]
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {
            MARK: self.mark
        }
        return subprocess.Popen(
            [sys.executable, "recipes/bard_tiny.py", *where, *SMALL, *overrides],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *overrides: str, code: int = 0, timeout_s: float = 280) -> str:
        process = self.start(*overrides)
        try:
            out, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == code, out
        return out

    def copy(self, name: str) -> Recipe:
        """The same run under another name, to resume from where this one is."""
        shutil.copytree(
            self.path, self.directory / name, ignore=shutil.ignore_patterns("logs", ".lock")
        )
        return Recipe(self.directory, name)

    def records(self, stage: str = "rl") -> list[dict]:
        lines = [
            json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()
        ]
        return [r for r in lines if r["stage"] == stage]

    def trace(self) -> list[list[float]]:
        return [[record[name] for name in TRACE] for record in self.records()]

    def facts(self, stage: str) -> dict:
        return json.loads((self.path / "state.json").read_text())["stages"][stage]["facts"]

    def wait_for_rl_step(
        self, step: int, process: subprocess.Popen[str], limit_s: float = 200
    ) -> None:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0]
            if (self.path / "metrics.jsonl").exists() and len(self.records()) >= step:
                return
            time.sleep(0.1)
        raise AssertionError(f"RL step {step} did not come within {limit_s} s")

    def actor_pid(self, name: str) -> int:
        """Process of the latest attempt of an actor, from its log."""
        return int(
            re.findall(r"process (\d+)", (self.path / "logs" / f"{name}.log").read_text())[-1]
        )

    def survivors(self, within_s: float = 20) -> list[str]:
        """Processes this command started that are still there after a while."""
        deadline = time.monotonic() + within_s
        while (alive := list(marked(self.mark).values())) and time.monotonic() < deadline:
            time.sleep(0.2)
        return alive

    def results(self) -> dict:
        return json.loads((self.path / "results.json").read_text())


def marked(mark: str) -> dict[int, str]:
    """Living processes that carry a mark in their environment, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes()
            ):
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if state != "Z":
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = command.decode(errors="replace")[:120]
        except OSError:
            continue
    return found
