"""What a weight update costs the engine, which keeps generating.

    python -m benchmarks.weight_sync [--sizes tiny,50m,500m] [--in-flight 128] [--repeats 5]
        [--loads background,in_place] [--dtype bfloat16] [--json FILE]

For each size a random Qwen3 is made, held by a learner rank and by a rollout worker, both Ray
actors as in a run. While the worker generates, weights go from the one to the other:

- gather: the learner lays its parameters out in one flat buffer, cast to the engine's type;
- put: Ray copies the buffer into the object store;
- get: from the driver's call until the worker has it, read in place from the store;
- prepare: the new weights are built beside the old ones while steps continue (in place: the wait
  for a step to end);
- stall: the engine could not step; `gap` is the longest time that passed between two steps;
- tokens/s: from the get until the end of the update, against the time just before.

`memcpy` is one copy of the same bytes in the worker's process, before any load, into memory that
was used before (warm) and that was not (first touch). The last line printed is one JSON object; its
`ratio` is the worst stall of a background load over the warm memcpy, among models above the
tiny one (of the tiny one if there is no other), and `tiny_stall_ms` the worst of the tiny one.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from actors.cluster.ray_cluster import Cluster
from actors.cluster.supervise import call
from actors.learner.actor import LearnerActor
from actors.learner.client import RayLearner
from actors.rollout.engine import TokenRequest
from actors.rollout.worker import RolloutWorker
from actors.weights.flat_buffer import FlatWeights
from bard_ray.config.schema import (
    ChainConfig,
    ClusterConfig,
    LearnerConfig,
    RolloutConfig,
    TinyModelConfig,
)
from bard_ray.learn.spec import OptimSpec
from benchmarks.cluster import CPU, MAX_LEN, local_cluster, spawn_learner, spawn_rollout
from benchmarks.common import Arguments, Benchmark, Option, Record, names, note, significant

PROMPT_TOKENS = 12
NEW_TOKENS = 160
LIMIT_S = 600.0
QUIET_S = 1.5  # of generation before each update: what it is compared with
QUIET_STEPS = 4
MAX_REQUESTS = 1_000_000


@dataclass(frozen=True)
class Size:
    """Shape of a random model; heads are 64 wide, except the tiny one's 32.

    `vocab` 0: the tokenizer's own. `store_mb`: object store that holds two versions.
    """

    layers: int
    hidden: int
    heads: int
    mlp: int
    vocab: int
    store_mb: int


Load = Literal["background", "in_place"]
Row = dict[str, float]

SIZES = {
    "tiny": Size(4, 128, 4, 256, 0, 256),
    "50m": Size(6, 640, 10, 2048, 16_384, 1024),
    "500m": Size(16, 1408, 22, 4608, 32_768, 3600),
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


@dataclass(frozen=True)
class Updates:
    """Repeated updates of one model, loaded in one way.

    Attributes:
        num_bytes: of the weights.
        memcpy_s: seconds to copy them into memory that was used before, and that was not.
        rows: seconds by part and tokens/s of each update; the first one warms up.
    """

    num_bytes: int
    memcpy_s: tuple[float, float]
    rows: Sequence[Row]


Sizes = dict[str, dict[str, Updates]]  # by size and way of loading


def measure(arguments: Arguments) -> Sizes:
    """All sizes, each in a cluster of its own."""
    return {name: asyncio.run(measure_size(name, arguments)) for name in arguments.sizes}


async def measure_size(name: str, arguments: Arguments) -> dict[str, Updates]:
    """All ways of loading for one size."""
    config = ClusterConfig(cpus=4, object_store_mb=SIZES[name].store_mb)
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "model"
        model.mkdir()
        write_model(model, SIZES[name])
        async with local_cluster(config, [CPU, CPU]) as cluster:
            for load in arguments.loads:
                found[load] = await measure_load(cluster, str(model), load, arguments)
                note(f"{name} {load}: worst stall {worst(found[load], 'stall_s') * 1e3:.2f} ms")
    return found


async def measure_load(cluster: Cluster, model: str, load: Load, arguments: Arguments) -> Updates:
    """One size, one way of loading."""
    dtype, in_flight = arguments.dtype, arguments.in_flight
    rollout = RolloutConfig(dtype=dtype, kv_cache_mb=512, max_num_seqs=in_flight, weight_load=load)
    config = LearnerConfig(cpus=1.0, zero_stage=0, precision="float32", pack_len=MAX_LEN)
    worker = spawn_rollout(cluster, TimedWorker, model, rollout)
    (rank,) = spawn_learner(cluster, config, 1, TimedLearner)
    learner = RayLearner([rank], config, dtype)
    try:
        await learner.start()
        await learner.begin(model, OptimSpec())
        await call(worker.start.remote(), LIMIT_S, "start")
        return await repeat(worker, rank, arguments)
    finally:
        cluster.kill(worker)
        cluster.kill(rank)


async def repeat(worker: Any, rank: Any, arguments: Arguments) -> Updates:
    """Publish and load again and again while the worker generates."""
    rows: list[Row] = []
    copies, num_bytes = (0.0, 0.0), 0
    for version in range(1, arguments.repeats + 2):
        work = rank.timed_publish.options(num_returns=2).remote(arguments.dtype)
        gather_s, gathered, num_bytes = await call(work[0], LIMIT_S, "publish")
        put_s = time.time() - gathered
        if version == 1:
            copies = await call(worker.memcpy_s.remote(num_bytes), LIMIT_S, "memcpy")
            await call(worker.keep_busy.remote(arguments.in_flight), LIMIT_S, "requests")
        await call(worker.quiet.remote(), LIMIT_S, "generating")
        sent = time.time()
        row = await call(worker.timed_update.remote(work[1], version, sent), LIMIT_S, "update")
        rows.append(row | {"gather_s": gather_s, "put_s": put_s})
    await call(worker.rest.remote(), LIMIT_S, "rest")
    return Updates(num_bytes, copies, rows)


def worst(updates: Updates, name: str) -> float:
    """Largest value over the updates, without the first."""
    return max(row[name] for row in updates.rows[1:])


def figures_of(updates: Updates) -> Row:
    """Medians over the updates but the first, and the worst stall and gap."""
    first, *warm = updates.rows
    memcpy_s, first_touch_s = updates.memcpy_s
    figures = {
        "bytes": float(updates.num_bytes),
        "memcpy_warm_s": memcpy_s,
        "memcpy_first_touch_s": first_touch_s,
        **{name: statistics.median(row[name] for row in warm) for name in first},
        "worst_stall_s": worst(updates, "stall_s"),
        "first_stall_s": first["stall_s"],
        "worst_gap_s": worst(updates, "gap_s"),
        "stall_over_memcpy": worst(updates, "stall_s") / memcpy_s,
    }
    return {name: significant(value) for name, value in figures.items()}


def summarize(sizes: Mapping[str, Mapping[str, Updates]]) -> Record:
    """Figures by size and way of loading."""
    table = {
        name: {load: figures_of(updates) for load, updates in loads.items()}
        for name, loads in sizes.items()
    }
    ours = {name: rows["background"] for name, rows in table.items() if "background" in rows}
    large = [row["stall_over_memcpy"] for name, row in ours.items() if name != "tiny"]
    ratios = large or [row["stall_over_memcpy"] for row in ours.values()]
    tiny = ours.get("tiny", {}).get("worst_stall_s")
    return {
        "ratio": round(max(ratios), 4) if ratios else None,
        "tiny_stall_ms": None if tiny is None else round(tiny * 1e3, 3),
        "sizes": table,
    }


TIMES = ("memcpy_warm", "memcpy_first_touch", "gather", "put", "get", "prepare", "stall")
WORST = ("worst_stall", "worst_gap")


def render(record: Record) -> str:
    """A line for each size and way of loading, times in milliseconds."""
    titles = (*TIMES, *WORST)
    widths = [max(8, len(title)) for title in titles]
    head = "  ".join(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True))
    lines = [f"{'ms':16}{'MB':>8}  {head}  /memcpy    tok/s  during"]
    for name, loads in record["sizes"].items():
        for load, row in loads.items():
            cells = "  ".join(
                f"{row[title + '_s'] * 1e3:{width}.2f}"
                for title, width in zip(titles, widths, strict=True)
            )
            slow = row["tokens_per_s_during"] / row["tokens_per_s_before"]
            start = f"{name:5}{load:11}{row['bytes'] / 1e6:8.1f}"
            end = f"{row['stall_over_memcpy']:7.2f}  {row['tokens_per_s_before']:7.0f}{slow:8.2f}"
            lines.append(f"{start}  {cells}  {end}")
    return "\n".join(lines)


OPTIONS = (
    Option("sizes", list(SIZES), ["tiny", "50m"], parse=names),
    Option("loads", ["background", "in_place"], ["background"], parse=names),
    Option("in_flight", 128, help="requests"),
    Option("repeats", 5, 2, "updates, after one that warms up"),
    Option("dtype", "bfloat16", choices=["bfloat16", "float32"]),
)
BENCHMARK = Benchmark("weight_sync", __doc__, measure, summarize, render, OPTIONS, target=3.0)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
