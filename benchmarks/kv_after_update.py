"""Effect of `rollout.kv_after_update` on log-probs and speed.

    python -m benchmarks.kv_after_update [--in-flight 64] [--change 0.01] [--repeats 3]
        [--json FILE]

Requests of the tiny model (float32) run while its weights are replaced by perturbed ones, each
moved by `--change` of its tensor's spread. `keep` continues with the keys and values of the old
weights, `recompute` recomputes them. Both report the distance between the log-probs of tokens
sampled after the update and those of a pure forward pass of the new weights, and the seconds until
the requests were done. The last line printed is one JSON object; its `ratio` is the time with
`recompute` over the time with `keep`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from actors.cluster.ray_cluster import Cluster
from actors.cluster.supervise import call
from actors.rollout.engine import TokenOutput, TokenRequest
from actors.rollout.worker import RolloutWorker
from bard_ray.config.schema import ChainConfig, ClusterConfig, RolloutConfig, TinyModelConfig
from benchmarks.cluster import CPU, MAX_LEN, local_cluster, spawn_rollout
from benchmarks.common import Arguments, Benchmark, Option, Record, medians, ratio_of

PROMPT = np.full(12, 5, np.int32)
NEW_TOKENS = 200
STEPS_BEFORE = 60
LIMIT_S = 300.0

Policy = Literal["keep", "recompute"]
POLICIES: tuple[Policy, ...] = ("keep", "recompute")
Rows = dict[Policy, list[dict[str, float]]]


class UpdatedWorker(RolloutWorker):
    """A rollout worker that updates weights in the middle of its requests."""

    async def across_update(self, path: str, in_flight: int) -> tuple[list[TokenOutput], float]:
        """Outputs of requests in flight at the update, and seconds from it until all were done."""
        begun = (await self.stats())["steps"]
        requests = [TokenRequest(f"{i}", PROMPT, 1.0, NEW_TOKENS, seed=i) for i in range(in_flight)]

        async def collect() -> list[TokenOutput]:
            return [o async for outputs in self._engine.generate(requests) for o in outputs]

        running = asyncio.create_task(collect())
        while (await self.stats())["steps"] < begun + STEPS_BEFORE:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        await self.load(path, 1)
        loaded = time.monotonic()
        return await running, time.monotonic() - loaded


def write_models(root: Path, change: float) -> list[str]:
    """Write the tiny model, and a copy with every weight perturbed."""
    import torch
    from safetensors.torch import load_file, save_file

    from bard_ray.data.tiny_model import write_tiny_model

    paths = [root / "old", root / "new"]
    for path in paths:
        write_tiny_model(path, TinyModelConfig(init_std=0.15), ChainConfig(), 0, MAX_LEN)
    generator = torch.Generator().manual_seed(0)
    file = paths[1] / "model.safetensors"
    weights = load_file(file)
    for tensor in weights.values():
        spread = max(float(tensor.std()), 1e-3)
        tensor += change * spread * torch.randn(tensor.shape, generator=generator)
    save_file(weights, file, {"format": "pt"})
    return [str(path) for path in paths]


def forward_gaps(outputs: list[TokenOutput], path: str) -> np.ndarray:
    """Log-prob distance of each token sampled after the update to a pure forward pass."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    gaps = []
    for output in outputs:
        tokens = torch.from_numpy(np.concatenate([PROMPT, output.tokens_T]).astype(np.int64))
        with torch.no_grad():
            logprobs = torch.log_softmax(model(tokens[None]).logits[0], -1)
        taken = logprobs[PROMPT.size - 1 : -1].gather(1, tokens[PROMPT.size :, None])[:, 0]
        gaps.append(np.abs(taken.numpy() - output.logprobs_T)[output.versions_T == 1])
    return np.concatenate(gaps)


async def measure_policy(
    cluster: Cluster, models: list[str], policy: Policy, in_flight: int
) -> dict[str, float]:
    """Measure one policy in a new engine."""
    rollout = RolloutConfig(kv_cache_mb=256, kv_after_update=policy)
    worker = spawn_rollout(cluster, UpdatedWorker, models[0], rollout)
    try:
        await call(worker.start.remote(), LIMIT_S, "start")
        work = worker.across_update.remote(models[1], in_flight)
        outputs, seconds = await call(work, LIMIT_S, "requests")
    finally:
        cluster.kill(worker)
    gaps = forward_gaps(outputs, models[1])
    return {
        "gap_mean": float(gaps.mean()),
        "gap_max": float(gaps.max()),
        "tokens_after": int(gaps.size),
        "seconds_after": seconds,
    }


def measure(arguments: Arguments) -> Rows:
    """Measure both policies in turn, in one local cluster."""
    return asyncio.run(run_repeats(arguments))


async def run_repeats(arguments: Arguments) -> Rows:
    """One row per repeat and policy."""
    rows: Rows = {policy: [] for policy in POLICIES}
    config = ClusterConfig(cpus=2, object_store_mb=128)
    with tempfile.TemporaryDirectory() as directory:
        models = write_models(Path(directory), arguments.change)
        async with local_cluster(config, [CPU]) as cluster:
            for _ in range(arguments.repeats):
                for policy in POLICIES:
                    row = await measure_policy(cluster, models, policy, arguments.in_flight)
                    rows[policy].append(row)
    return rows


def summarize(rows: Mapping[Policy, Sequence[Mapping[str, float]]]) -> Record:
    """Medians of both policies over the repeats."""
    seconds = {policy: [row["seconds_after"] for row in rows[policy]] for policy in POLICIES}
    return {
        "ratio": round(ratio_of(seconds["recompute"], seconds["keep"]), 4),
        "policies": {policy: medians(found, 9) for policy, found in rows.items()},
    }


def render(record: Record) -> str:
    """One line per policy."""
    return "\n".join(
        f"{policy:>9}: {row['gap_mean']:.1e} nats from a pure forward (at most "
        f"{row['gap_max']:.1e}), {row['tokens_after']:.0f} tokens in "
        f"{row['seconds_after']:.2f} s after the update"
        for policy, row in record["policies"].items()
    )


OPTIONS = (
    Option("in_flight", 64, help="requests"),
    Option("change", 0.01, help="of the weights, in spreads of their tensor"),
    Option("repeats", 3, quick=1),
)
BENCHMARK = Benchmark("kv_after_update", __doc__, measure, summarize, render, OPTIONS)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
