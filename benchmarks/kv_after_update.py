"""What `rollout.kv_after_update` does to log-probs and speed.

    python benchmarks/kv_after_update.py [--in-flight 64] [--change 0.01] [--repeats 3]
        [--json FILE]

Requests of the tiny model (float32) run while its weights are replaced by others, each moved by
`--change` of its tensor's spread. `keep` goes on with the keys and values of the old weights,
`recompute` computes them again. For each: how far the log-probs of tokens sampled after the update
are from a pure forward of the new weights, and seconds until the requests were done. The last line
printed is one JSON object; its `ratio` is the time with `recompute` over the time with `keep`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from actors.cluster.env import apply_driver_env, engine_env
from actors.cluster.ray_cluster import ActorSpec, Cluster
from actors.cluster.supervise import call
from actors.rollout.engine import TokenOutput, TokenRequest
from actors.rollout.worker import RolloutWorker
from bard_ray.config.schema import (
    BudgetConfig,
    ChainConfig,
    ClusterConfig,
    RolloutConfig,
    StudentConfig,
    TinyModelConfig,
)

MAX_LEN = 256
PROMPT = np.full(12, 5, np.int32)
NEW_TOKENS = 200
STEPS_BEFORE = 60
LIMIT_S = 300.0

Policy = Literal["keep", "recompute"]
POLICIES: tuple[Policy, ...] = ("keep", "recompute")


class UpdatedWorker(RolloutWorker):
    """A rollout worker that changes weights in the middle of its requests."""

    async def across_update(self, path: str, in_flight: int) -> tuple[list[TokenOutput], float]:
        """Outputs of requests that the update met, and seconds from it until all were done."""
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
    """The tiny model, and a copy with every weight moved."""
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
    """Distance to a pure forward of the new weights, of each token sampled after the update."""
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


async def measure(
    cluster: Cluster, models: list[str], policy: Policy, in_flight: int
) -> dict[str, float]:
    """One policy, in a fresh engine."""
    worker = cluster.spawn(
        UpdatedWorker,
        ActorSpec(f"rollout-{policy}", 0, 1.0, 0.0, env=engine_env(on_gpu=False)),
        models[0],
        RolloutConfig(kv_cache_mb=256, kv_after_update=policy),
        StudentConfig(max_len=MAX_LEN),
        BudgetConfig(codec="digits"),
        0,
    )
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


def run(in_flight: int, change: float, repeats: int) -> dict[Policy, dict[str, float]]:
    """Medians of both policies, which take turns in one local cluster."""
    with tempfile.TemporaryDirectory() as directory:
        models = write_models(Path(directory), change)
        cluster = Cluster(
            ClusterConfig(cpus=2, object_store_mb=128), Path(directory), verbose=False
        )
        cluster.connect()
        try:
            asyncio.run(cluster.reserve([{"CPU": 1.0}]))
            rows: dict[Policy, list[dict[str, float]]] = {policy: [] for policy in POLICIES}
            for _ in range(repeats):
                for policy in POLICIES:
                    rows[policy].append(asyncio.run(measure(cluster, models, policy, in_flight)))
            return {
                policy: {name: statistics.median(row[name] for row in found) for name in found[0]}
                for policy, found in rows.items()
            }
        finally:
            cluster.close()


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--change", type=float, default=0.01)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    apply_driver_env()
    os.environ.pop("RAY_ADDRESS", None)
    found = run(args.in_flight, args.change, args.repeats)
    for policy, row in found.items():
        print(
            f"{policy:>9}: {row['gap_mean']:.1e} nats from a pure forward (at most "
            f"{row['gap_max']:.1e}), {row['tokens_after']:.0f} tokens in "
            f"{row['seconds_after']:.2f} s after the update"
        )
    record: dict[str, Any] = {
        "benchmark": "kv_after_update",
        "date": datetime.now(UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "in_flight": args.in_flight,
        "change": args.change,
        "ratio": round(found["recompute"]["seconds_after"] / found["keep"]["seconds_after"], 4),
        "policies": found,
    }
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
