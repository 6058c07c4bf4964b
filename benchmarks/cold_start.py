"""Seconds from the command to the first gradient step, and where they go.

    python -m benchmarks.cold_start [--repeats 3] [--json FILE]

Three measurements, in turn, each in fresh processes:

- `first_gradient_s`: the tiny recipe as it is, from starting the command until its first optimizer
  step (of the first supervised stage) is on disk;
- `first_rl_step_s`: the same with a trained student and every stage but RL switched off;
- `split`: the same start in a script with a stopwatch. `imports`, `ray` and `placement` come one
  after the other; the times of the roles count from the moment all actors were asked for, side by
  side; `load` and `step` are the learner's first.

The last line printed is one JSON object; `ratio` is `first_gradient_s` over the sum of the parts
that cannot overlap: imports, Ray, placement, the learner's start, load and step.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, child_env, finish, machine, recipe_command, trained_student

POLL_S = 0.02
LIMIT_S = 300.0
ALONE = ("imports", "ray", "placement", "learner_up", "load", "step")


def until_first_record(overrides: Sequence[str]) -> float:
    """Seconds from starting the recipe until its first metrics record; then it is stopped."""
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        command = recipe_command(f"run.dir={directory}", "run.name=cold", *overrides)
        process = subprocess.Popen(
            command, cwd=ROOT, env=child_env(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _await_record(Path(directory) / "cold" / "metrics.jsonl", process, started)
            return time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _await_record(path: Path, process: subprocess.Popen[bytes], started: float) -> None:
    while not (path.exists() and path.stat().st_size):
        if process.poll() is not None:
            assert process.stderr is not None
            sys.exit(f"the recipe ended too early:\n{process.stderr.read().decode()[-2000:]}")
        if time.perf_counter() - started > LIMIT_S:
            sys.exit(f"no step within {LIMIT_S:g} s")
        time.sleep(POLL_S)


def split(model: str) -> dict[str, float]:
    """The parts of a start, in a fresh process."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.cold_start",
            "--parts-from",
            repr(time.time()),
            "--model",
            model,
        ],
        cwd=ROOT,
        env=child_env(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the start failed:\n{done.stderr[-2000:]}")
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return parts


def print_parts(started: float, model: str) -> None:
    """Start the roles of the tiny recipe with a stopwatch; `started` is in seconds of the epoch."""
    from actors.cluster.env import apply_driver_env

    apply_driver_env()
    from actors.cluster.ray_cluster import Cluster
    from actors.placement.plan import plan_placement
    from actors.stages.order import stages_of
    from bard_ray.config.load import load
    from bard_ray.preflight.check import check
    from recipes.bard_tiny import config as recipe

    config = load(recipe(), [])
    check(config)
    plan = plan_placement(config)
    stages_of(config)  # imports what the command imports
    parts = {"imports": time.time() - started}
    with tempfile.TemporaryDirectory() as logs:
        cluster = Cluster(config.cluster, Path(logs), verbose=False)
        asyncio.run(_start(cluster, plan, config, model, parts))
    print(json.dumps({name: round(seconds, 2) for name, seconds in parts.items()}))


async def _start(cluster: Any, plan: Any, config: Any, model: str, parts: dict[str, float]) -> None:
    try:
        await _timed_start(cluster, plan, config, model, parts)
    finally:
        cluster.close()


async def _timed_start(
    cluster: Any, plan: Any, config: Any, model: str, parts: dict[str, float]
) -> None:
    from actors.placement.deployment import Starter, bundles
    from actors.stages.sft import sft_optim

    last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        parts[name], last = now - last, now

    await asyncio.to_thread(cluster.connect)
    lap("ray")
    await cluster.reserve(bundles(plan))
    lap("placement")
    roles = Starter(cluster, plan, config, model).start()
    sampling = asyncio.create_task(_seconds_until(roles.sampling_ready))
    await roles.learner_ready
    lap("learner_up")
    await roles.learner.begin(model, sft_optim(config.base))
    lap("load")
    await roles.learner.step(*_first_batch(config, model))
    lap("step")
    parts["engines_up"] = await sampling
    await roles.stop()


async def _seconds_until(ready: asyncio.Task[None]) -> float:
    started = time.perf_counter()
    await ready
    return time.perf_counter() - started


def _first_batch(config: Any, model: str) -> tuple[Any, Any, float]:
    """A batch of the first supervised stage."""
    from bard_ray.data.prompt import load_prompt_format
    from bard_ray.distill.corpus import base_corpus, to_sequences
    from bard_ray.learn.spec import LossSpec

    prompts = load_prompt_format(model, config.student, config.budget.codec)
    rows = base_corpus(config.data, config.base.batch_rows, config.run.seed)
    sequences, _ = to_sequences(rows, prompts, config.student.max_len)
    return sequences, LossSpec("nll"), config.base.lr


def measure(model: str, repeats: int) -> dict[str, Any]:
    """Medians over the repeats; the three measurements take turns."""
    off = [f"{name}.enabled=false" for name in ("base", "sft_full", "sft", "evaluate")]
    gradient, rl, parts = [], [], []
    for number in range(repeats):
        gradient.append(until_first_record([]))
        rl.append(until_first_record([*off, f"student.path={model}"]))
        parts.append(split(model))
        print(
            f"repeat {number + 1}: first gradient step {gradient[-1]:.1f} s,"
            f" first RL step {rl[-1]:.1f} s, parts {parts[-1]}",
            flush=True,
        )
    medians = {n: round(statistics.median(p[n] for p in parts), 2) for n in parts[0]}
    first = statistics.median(gradient)
    return {
        "ratio": round(first / sum(medians[name] for name in ALONE), 3),
        "first_gradient_s": round(first, 2),
        "first_rl_step_s": round(statistics.median(rl), 2),
        "split": medians,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", help="model directory; default: a short student, made once")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one repeat")
    parser.add_argument("--parts-from", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.parts_from is not None:
        print_parts(args.parts_from, args.model)
        return 0
    facts, model = machine(), args.model or trained_student()
    os.environ.pop("RAY_ADDRESS", None)
    repeats = 1 if args.quick else args.repeats
    figures = measure(str(Path(model).resolve()), repeats)
    finish({"benchmark": "cold_start", **facts, **figures, "repeats": repeats}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
