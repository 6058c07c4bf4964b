"""What an update of the weights costs the engine that goes on generating.

    python benchmarks/weight_sync.py [--sizes tiny,50m,500m] [--in-flight 128] [--repeats 5]
        [--loads background,in_place] [--dtype bfloat16] [--json FILE]

For each size a random Qwen3 is made, held by a learner rank and by a rollout worker, both Ray
actors as in a run. While the worker generates, weights go from the one to the other:

- gather: the learner lays its parameters out in one flat buffer, cast to the engine's type;
- put: Ray copies the buffer into the object store;
- get: from the driver's call until the worker has it, read in place from the store;
- prepare: the new weights are built beside the old ones while steps go on (in place: the wait for
  a step to end);
- stall: the engine could not step; `gap` is the longest time that passed between two steps;
- tokens/s: from the get until the end of the update, against the time just before.

`memcpy` is one copy of the same bytes in the worker's process, before any load, into memory that
was used before (warm) and that was not (first touch). The last line printed is one JSON object; its
`ratio` is the worst stall of a background load over the warm memcpy, among models above the
tiny one, and `tiny_stall_ms` the worst of the tiny one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from actors.cluster.env import apply_driver_env, engine_env, learner_env
from actors.cluster.ray_cluster import ActorSpec, Cluster
from actors.cluster.supervise import call
from actors.learner.actor import LearnerActor
from actors.rollout.engine import TokenRequest
from actors.rollout.worker import RolloutWorker
from actors.weights.flat_buffer import FlatWeights
from bard_ray.config.schema import (
    BudgetConfig,
    ChainConfig,
    ClusterConfig,
    LearnerConfig,
    RolloutConfig,
    StudentConfig,
    TinyModelConfig,
)
from bard_ray.learn.spec import OptimSpec

MAX_LEN = 256
PROMPT_TOKENS = 12
NEW_TOKENS = 160
LIMIT_S = 600.0
QUIET_S = 1.5  # of generation before each update: what it is compared with
QUIET_STEPS = 4
MAX_REQUESTS = 1_000_000


@dataclass(frozen=True)
class Size:
    """Shape of a random model; heads are 64 wide, except the tiny one's 32.

    `vocab` 0: the tokenizer's own.
    """

    layers: int
    hidden: int
    heads: int
    mlp: int
    vocab: int


Load = Literal["background", "in_place"]

SIZES = {
    "tiny": Size(4, 128, 4, 256, 0),
    "50m": Size(6, 640, 10, 2048, 16_384),
    "500m": Size(16, 1408, 22, 4608, 32_768),
}


def write_model(path: Path, size: Size) -> None:
    """A random Qwen3 with tied embeddings, as a model directory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from bard_ray.data.tiny_model import write_tiny_model

    tiny = TinyModelConfig(
        layers=size.layers, hidden=size.hidden, heads=size.heads, mlp=size.mlp, init_std=0.05
    )
    if not size.vocab:
        write_tiny_model(path, tiny, ChainConfig(), 0, MAX_LEN)
        return
    shallow = TinyModelConfig(layers=1, hidden=size.hidden, heads=size.heads, mlp=1)
    write_tiny_model(path, shallow, ChainConfig(), 0, MAX_LEN)  # for its tokenizer
    config = AutoConfig.from_pretrained(path)
    config.vocab_size, config.intermediate_size = size.vocab, size.mlp
    config.num_hidden_layers = size.layers
    config.layer_types = ["full_attention"] * size.layers
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(path)


class TimedLearner(LearnerActor):
    """A learner rank that says how long it gathered."""

    def timed_publish(self, dtype: str) -> tuple[tuple[float, float, int], FlatWeights | None]:
        """Seconds of the gather, the clock after it, and bytes; with the weights."""
        started = time.time()
        flat = self.gather(dtype)
        ended = time.time()
        return (ended - started, ended, 0 if flat is None else flat.buffer.nbytes), flat


class TimedWorker(RolloutWorker):
    """A rollout worker that keeps requests in flight and notes when its engine steps."""

    async def start(self) -> None:
        """Start the engine, then note every step: begin, end, running requests."""
        await super().start()
        engine: Any = self._engine
        step = engine._engine.step
        self._steps: list[tuple[float, float, int]] = []
        self._work: list[asyncio.Task[None]] = []

        def noted() -> Any:
            running, started = len(engine._waiting), time.time()
            outputs = step()
            self._steps.append((started, time.time(), running))
            return outputs

        engine._engine.step = noted

    def memcpy_s(self, num_bytes: int) -> tuple[float, float]:
        """Seconds to copy that many bytes: to memory used before, and to fresh memory."""
        source, target = np.ones(num_bytes, np.uint8), np.empty(num_bytes, np.uint8)
        times = []
        for _ in range(6):
            started = time.perf_counter()
            np.copyto(target, source)
            times.append(time.perf_counter() - started)
        del source, target
        gc.collect()
        return statistics.median(times[1:]), times[0]

    async def keep_busy(self, in_flight: int) -> None:
        """From now on there are so many requests at a time."""
        self._work = [asyncio.create_task(self._stream(i)) for i in range(in_flight)]
        await asyncio.sleep(0)

    async def _stream(self, index: int) -> None:
        prompt = np.full(PROMPT_TOKENS, 5 + index % 20, np.int32)
        for turn in range(MAX_REQUESTS):
            # Different lengths keep the requests out of step with each other.
            length = NEW_TOKENS // 2 + (index * 37 + turn * 11) % (NEW_TOKENS // 2)
            request = TokenRequest(f"{index}-{turn}", prompt, 1.0, length, seed=index + turn)
            async for _ in self._engine.generate([request]):
                pass

    async def rest(self) -> None:
        """Drop the requests."""
        for task in self._work:
            task.cancel()
        for task in self._work:
            with suppress(asyncio.CancelledError):
                await task

    async def quiet(self) -> None:
        """Generate undisturbed for a while."""
        begun, until = len(self._steps), time.time() + QUIET_S
        # The engine's thread is watched from outside, hence the polling here and below.
        while time.time() < until or len(self._steps) < begun + QUIET_STEPS:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def timed_update(
        self, weights: FlatWeights, version: int, sent: float
    ) -> dict[str, float]:
        """Load weights while generating; seconds by part, and tokens/s before and meanwhile."""
        arrived = time.time()
        _, stall_s = await self.update(weights, version)
        ended = time.time()
        while not self._steps or self._steps[-1][0] < ended:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        edges = [(a[1], b[0]) for a, b in zip(self._steps, self._steps[1:], strict=False)]
        return {
            "get_s": arrived - sent,
            "stall_s": stall_s,
            "prepare_s": max(ended - arrived - stall_s, 0.0),
            "gap_s": max(b - a for a, b in edges if b > arrived),
            "tokens_per_s_before": self._rate(sent - QUIET_S, sent),
            "tokens_per_s_during": self._rate(sent, ended),
        }

    def _rate(self, begin: float, end: float) -> float:
        """Tokens per second; a step that is only partly inside counts in part."""
        tokens = 0.0
        for started, ended, running in self._steps:
            inside = min(ended, end) - max(started, begin)
            tokens += running * max(inside, 0.0) / (ended - started)
        return tokens / (end - begin)


async def measure(
    cluster: Cluster, model: str, load: Load, args: argparse.Namespace
) -> dict[str, float]:
    """One size, one way of loading: medians over the repeats, and the worst stall."""
    rollout = RolloutConfig(
        dtype=args.dtype, kv_cache_mb=512, max_num_seqs=args.in_flight, weight_load=load
    )
    student = StudentConfig(max_len=MAX_LEN)
    env = engine_env(on_gpu=False)
    worker = cluster.spawn(
        TimedWorker, ActorSpec(f"rollout-{load}", 0, 1.0, 0.0, env=env),
        model, rollout, student, BudgetConfig(codec="digits"), 0,
    )  # fmt: skip
    config = LearnerConfig(zero_stage=0, precision="float32", pack_len=MAX_LEN)
    learner = cluster.spawn(
        TimedLearner,
        ActorSpec(f"learner-{load}", 1, 1.0, 0.0, env=learner_env(on_gpu=False, loopback=True)),
        0, 1, config, 0, True,
    )  # fmt: skip
    try:
        host, port = await call(learner.rendezvous.remote(), LIMIT_S, "rendezvous")
        await call(learner.connect.remote(host, port), LIMIT_S, "connect")
        await call(learner.begin.remote(model, OptimSpec()), LIMIT_S, "begin")
        await call(worker.start.remote(), LIMIT_S, "start")
        return await repeat(worker, learner, args)
    finally:
        cluster.kill(worker)
        cluster.kill(learner)


async def repeat(worker: Any, learner: Any, args: argparse.Namespace) -> dict[str, float]:
    """Publish and load again and again while the worker generates; the first time is left out."""
    rows: list[dict[str, float]] = []
    num_bytes = 0
    for version in range(1, args.repeats + 2):
        work = learner.timed_publish.options(num_returns=2).remote(args.dtype)
        gather_s, gathered, num_bytes = await call(work[0], LIMIT_S, "publish")
        put_s = time.time() - gathered
        if version == 1:
            copies = await call(worker.memcpy_s.remote(num_bytes), LIMIT_S, "memcpy")
            await call(worker.keep_busy.remote(args.in_flight), LIMIT_S, "requests")
        await call(worker.quiet.remote(), LIMIT_S, "generating")
        sent = time.time()
        row = await call(worker.timed_update.remote(work[1], version, sent), LIMIT_S, "update")
        rows.append(row | {"gather_s": gather_s, "put_s": put_s})
    await call(worker.rest.remote(), LIMIT_S, "rest")
    warm = rows[1:]
    medians = {name: statistics.median(row[name] for row in warm) for name in warm[0]}
    stalls = [row["stall_s"] for row in warm]
    return {
        "bytes": num_bytes, "memcpy_warm_s": copies[0], "memcpy_first_touch_s": copies[1],
        **medians, "worst_stall_s": max(stalls), "first_stall_s": rows[0]["stall_s"],
        "worst_gap_s": max(row["gap_s"] for row in warm),
        "stall_over_memcpy": max(stalls) / copies[0],
    }  # fmt: skip


def run_size(name: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All ways of loading for one size, in a cluster of its own."""
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "model"
        model.mkdir()
        write_model(model, SIZES[name])
        logs = Path(directory) / "logs"
        logs.mkdir()
        store_mb = 256 if name == "tiny" else 1024 if name == "50m" else 3600
        cluster = Cluster(ClusterConfig(cpus=4, object_store_mb=store_mb), logs, verbose=False)
        cluster.connect()
        try:
            asyncio.run(cluster.reserve([{"CPU": 1.0}] * 2))
            return {
                load: asyncio.run(measure(cluster, str(model), load, args)) for load in args.loads
            }
        finally:
            cluster.close()


def show(name: str, load: str, row: dict[str, float]) -> None:
    """One line of the table."""
    ms = {key[:-2]: value * 1e3 for key, value in row.items() if key.endswith("_s")}
    slow = row["tokens_per_s_during"] / row["tokens_per_s_before"]
    print(
        f"{name:>5} {load:<10} {row['bytes'] / 1e6:8.1f} {ms['memcpy_warm']:7.1f} "
        f"{ms['memcpy_first_touch']:7.1f} {ms['gather']:7.1f} {ms['put']:7.1f} {ms['get']:6.1f} "
        f"{ms['prepare']:8.1f} {ms['stall']:7.2f} {ms['worst_stall']:7.2f} {ms['worst_gap']:7.2f} "
        f"{row['stall_over_memcpy']:7.2f} {row['tokens_per_s_before']:8.0f} {slow:6.2f}",
        flush=True,
    )


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="tiny,50m,500m")
    parser.add_argument("--loads", default="background,in_place")
    parser.add_argument("--in-flight", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.loads = args.loads.split(",")
    apply_driver_env()
    os.environ.pop("RAY_ADDRESS", None)
    print(
        " size load             MB  memcpy   first  gather     put    get  prepare   stall   worst"
        "     gap  /memcpy    tok/s during   (ms)"
    )
    results = {}
    for name in args.sizes.split(","):
        results[name] = run_size(name, args)
        for load, row in results[name].items():
            show(name, load, row)
    record = summary(results, args)
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))
    return 0


def summary(
    results: dict[str, dict[str, dict[str, float]]], args: argparse.Namespace
) -> dict[str, Any]:
    """The record that is printed and kept."""
    ours = {name: rows["background"] for name, rows in results.items() if "background" in rows}
    ratios = [row["stall_over_memcpy"] for name, row in ours.items() if name != "tiny"]
    tiny = ours.get("tiny", {}).get("worst_stall_s")
    return {
        "benchmark": "weight_sync",
        "date": datetime.now(UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "dtype": args.dtype,
        "in_flight": args.in_flight,
        "repeats": args.repeats,
        "ratio": round(max(ratios), 4) if ratios else None,
        "tiny_stall_ms": None if tiny is None else round(tiny * 1e3, 3),
        "sizes": {
            name: {
                load: {key: float(f"{value:.5g}") for key, value in row.items()}
                for load, row in rows.items()
            }
            for name, rows in results.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
