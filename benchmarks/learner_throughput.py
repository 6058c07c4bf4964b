"""The learner against a bare torch loop over the same packed batches, and one rank against two.

    python -m benchmarks.learner_throughput [--steps 10] [--rounds 5] [--json FILE] [field=value]

Learner groups of one and of two ranks are started as in a run, through Ray and DeepSpeed, and take
GRPO steps over sequences of the tiny recipe's lengths. A bare loop in a separate process (model,
loss, backward, clip, fused AdamW; packed beforehand, no statistics) takes the same steps. The three
take turns of `--steps` steps, so that other load on the machine affects all of them equally; a
ratio is the median over rounds. The bare loop then compares forms of attention. The last line
printed is one JSON object: `ratio` is learner over bare loop, `scaling` two ranks over one, both in
tokens per second of wall time. `cpu_ratio` is learner over bare loop in tokens per second of
processor time of the process that computes; on a busy machine it is the steadier one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from actors.cluster.env import thread_env
from actors.cluster.ray_cluster import Cluster
from actors.learner.client import RayLearner
from actors.placement.model_paths import student_directory
from bard_ray.config.load import load
from bard_ray.config.schema import Config, LearnerConfig
from bard_ray.learn.pack import MicroBatch, PackSpec, pack
from bard_ray.learn.spec import LossSpec, OptimSpec
from bard_ray.records import TrainSequence
from benchmarks.cluster import local_cluster, spawn_learner
from benchmarks.common import Arguments, Benchmark, Option, Record, ratio_of
from recipes.bard_tiny import config as recipe

Seconds = tuple[float, float]
WALL, CPU = 0, 1
ONE_RANK, TWO_RANKS, BARE = "learner, 1 rank", "learner, 2 ranks", "bare"
LR = 1e-5
OPTIM = OptimSpec()
LOSS = LossSpec("grpo")
# Ray's default for its workers. With another value, other load would slow down only one side.
RAY_NICENESS = 15
VOCAB = 32  # smaller than the tiny vocabulary: any id will do


def sequences(config: Config) -> list[TrainSequence]:
    """One RL step of the recipe: groups share prompt length and budget, answers are short."""
    rng = np.random.default_rng(0)
    chain, out = config.data.chain, []
    for _ in range(config.rl.prompts_per_step):
        prompt = 2 * int(rng.integers(chain.min_ops, chain.max_ops + 1)) + 6
        budget = int(rng.choice(config.budget.train))
        for _ in range(config.rl.group_size):
            length = prompt + max(2, int(budget * rng.uniform(0.8, 1.1))) + 5
            out.append(
                TrainSequence(
                    tokens_T=rng.integers(0, VOCAB, length).astype(np.int32),
                    mask_T=np.arange(length) >= prompt,
                    advantages_T=np.full(length, rng.normal(), np.float32),
                    behavior_T=np.full(length, -3.0, np.float32),
                )
            )
    return out


# ---------------------------------------------------------------------- the bare loop


def one_a_row(given: Sequence[TrainSequence], rows: int) -> list[MicroBatch]:
    """Padding instead of packing: similar lengths together, causal attention without a mask."""
    ordered = sorted(given, key=lambda s: -s.tokens_T.size)
    batches = []
    for start in range(0, len(ordered), rows):
        part = ordered[start : start + rows]
        # A row has room for the longest one only; the sequences are long enough that no two fit.
        (batch,) = pack(part, PackSpec(part[0].tokens_T.size, rows))
        assert len(batch.tokens_RT) == len(part)
        width = batch.tokens_RT.shape[1]
        positions = np.tile(np.arange(width, dtype=np.int32), (len(batch.tokens_RT), 1))
        batches.append(replace(batch, positions_RT=positions))
    return batches


class BareLoop:
    """Model, loss, backward, clip, AdamW."""

    def __init__(self, path: str, config: LearnerConfig, batches: Sequence[MicroBatch]) -> None:
        import torch

        from bard_ray.learn.policy import load_policy

        torch.set_num_threads(max(1, config.threads))
        self.policy, self.batches = load_policy(path, config.attention, config.precision), batches
        self.adam = torch.optim.AdamW(self.policy.parameters(), lr=LR, fused=True)
        self.trained = sum(int(batch.mask_RT.sum()) for batch in batches)
        self.columns = [
            [torch.from_numpy(a[b.mask_RT]) for a in (b.advantages_RT, b.behavior_RT)]
            for b in batches
        ]

    def step(self) -> None:
        """One optimizer step with the default loss, truncated importance sampling."""
        import torch

        for batch, (advantages_N, behavior_N) in zip(self.batches, self.columns, strict=True):
            logprobs_N, _ = self.policy(batch, 1.0)
            weight_N = (logprobs_N.detach() - behavior_N).exp().clamp(max=2.0)
            (-(weight_N * advantages_N * logprobs_N).sum() / self.trained).backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), OPTIM.grad_clip)
        self.adam.step()
        self.adam.zero_grad()


def attention_forms(given: Sequence[TrainSequence], config: LearnerConfig) -> dict[str, Any]:
    """Attention implementation and batches of each form, by name."""
    spec = PackSpec.of(config.pack_len, config.micro_tokens, config.attention)
    packed, padded = pack(given, spec), one_a_row(given, 2 * spec.rows)
    return {
        "eager, packed, block mask": ("eager", packed),
        "sdpa, packed, block mask": ("sdpa", packed),
        "eager, one sequence a row": ("eager", padded),
        "sdpa, one sequence a row, no mask": ("sdpa", padded),
    }


def bare_process(
    path: str, config: LearnerConfig, given: Sequence[TrainSequence], pipe: Connection
) -> None:
    """Serve requests: (name, steps) to the seconds they took; None ends the process."""
    os.environ.update(thread_env(config.threads))
    os.setpriority(os.PRIO_PROCESS, 0, RAY_NICENESS)
    spec = PackSpec.of(config.pack_len, config.micro_tokens, config.attention)
    loops = {BARE: BareLoop(path, config, pack(given, spec))}
    for name, (attention, batches) in attention_forms(given, config).items():
        loops[name] = BareLoop(path, replace(config, attention=attention), batches)
    pipe.send("ready")
    while (request := pipe.recv()) is not None:
        name, steps = request
        began = time.perf_counter(), time.process_time()
        for _ in range(steps):
            loops[name].step()
        pipe.send((time.perf_counter() - began[0], time.process_time() - began[1]))


# ---------------------------------------------------------------------- the learner


@dataclass
class LiveLearner:
    """A learner group as in a run, and the actor of its first rank."""

    learner: RayLearner
    first: Any

    async def run(self, given: Sequence[TrainSequence], steps: int) -> Seconds:
        """Take steps."""
        began = time.perf_counter(), await self._cpu_s()
        for _ in range(steps):
            await self.learner.step(given, LOSS, LR)
        return time.perf_counter() - began[0], await self._cpu_s() - began[1]

    async def _cpu_s(self) -> float:
        return float(await self.first.__ray_call__.remote(lambda _: time.process_time()))


async def start_group(
    cluster: Cluster, config: LearnerConfig, bundle: int, path: str
) -> LiveLearner:
    """A learner group whose first rank is in this bundle."""
    ranks = spawn_learner(cluster, config, bundle)
    learner = RayLearner(ranks, config, "float32")
    await learner.start()
    await learner.begin(path, OPTIM)
    return LiveLearner(learner, ranks[0])


# ---------------------------------------------------------------------- in turn


@dataclass(frozen=True)
class Times:
    """Wall and processor seconds of each contestant, one entry per round; tokens of a round."""

    seconds: Mapping[str, Sequence[Seconds]]
    tokens: int


def measure(arguments: Arguments) -> Times:
    """Measure all contestants in turn, from the student's random weights."""
    config = load(recipe(), ["cluster.cpus=4", *arguments.overrides])
    given = sequences(config)
    with tempfile.TemporaryDirectory() as directory:
        path = student_directory(config, Path(directory))
        rounds = run_rounds(config, path, given, arguments)
        seconds = asyncio.run(rounds)
    return Times(seconds, arguments.steps * sum(s.tokens_T.size for s in given))


@contextmanager
def bare_loops(
    path: str, config: LearnerConfig, given: Sequence[TrainSequence]
) -> Iterator[Connection]:
    """Start the process of the bare loops; it sends `ready` through its end of the pipe."""
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    process = spawn.Process(target=bare_process, args=(path, config, given, theirs), daemon=True)
    process.start()
    try:
        yield pipe
    finally:
        process.kill()


async def run_rounds(
    config: Config, path: str, given: Sequence[TrainSequence], arguments: Arguments
) -> dict[str, list[Seconds]]:
    """Run two warm-up steps for each contestant, then the rounds."""
    one = config.learner
    bundles = [{"CPU": one.cpus}] * 3
    with bare_loops(path, one, given) as pipe:
        async with local_cluster(config.cluster, bundles) as cluster:
            single = await start_group(cluster, one, 0, path)
            pair = await start_group(cluster, replace(one, ranks=2), 1, path)
            pipe.recv()

            async def bare(name: str, count: int) -> Seconds:
                pipe.send((name, count))
                wall_s, cpu_s = await asyncio.to_thread(pipe.recv)
                return wall_s, cpu_s

            contestants: dict[str, Callable[[int], Awaitable[Seconds]]] = {
                ONE_RANK: partial(single.run, given),
                TWO_RANKS: partial(pair.run, given),
                **{name: partial(bare, name) for name in (BARE, *attention_forms(given, one))},
            }
            for run in contestants.values():
                await run(2)
            seconds: dict[str, list[Seconds]] = {name: [] for name in contestants}
            for _ in range(arguments.rounds):
                for name, run in contestants.items():
                    seconds[name].append(await run(arguments.steps))
            pipe.send(None)
    return seconds


def summarize(times: Times) -> Record:
    """Tokens per second, and ratios as medians over rounds."""
    seconds = times.seconds

    def speed(name: str, other: str, clock: int) -> float:
        theirs, ours = ([t[clock] for t in seconds[n]] for n in (other, name))
        return round(ratio_of(theirs, ours), 3)

    def per_second(clock: int) -> dict[str, int]:
        middle = {n: statistics.median(t[clock] for t in ts) for n, ts in seconds.items()}
        return {name: round(times.tokens / value) for name, value in middle.items()}

    forms = [name for name in seconds if name not in (BARE, ONE_RANK, TWO_RANKS)]
    return {
        "ratio": speed(ONE_RANK, BARE, WALL),
        "cpu_ratio": speed(ONE_RANK, BARE, CPU),
        "scaling": speed(TWO_RANKS, ONE_RANK, WALL),
        "tokens_per_s": per_second(WALL),
        "tokens_per_cpu_s": per_second(CPU),  # with two ranks: of the first one's time
        "attention_cpu_speed_over_bare": {name: speed(name, BARE, CPU) for name in forms},
    }


def render(record: Record) -> str:
    """One line per contestant, then the ratios."""
    lines = [
        f"{name:36s} {value:8,d} tokens/s {record['tokens_per_cpu_s'][name]:8,d} tokens/CPU s"
        for name, value in record["tokens_per_s"].items()
    ]
    ratios = ("ratio", "cpu_ratio", "scaling")
    return "\n".join([*lines, "  ".join(f"{name} {record[name]:.3f}" for name in ratios)])


OPTIONS = (Option("steps", 10, 4, "of each contestant in a round"), Option("rounds", 5, 2))
BENCHMARK = Benchmark(
    "learner_throughput", __doc__, measure, summarize, render, OPTIONS, target=0.9, overrides=True
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
