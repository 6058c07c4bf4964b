"""Gradings per second of the verifier pool, against the ways math-verify is commonly called.

    python -m benchmarks.verifier [--items 3000] [--limit 5] [--quick] [--json FILE]

Contestants, all on the same items (`benchmarks/verifier_items.py`, whose truth is known):

- `ours`: one `GradingProcess`; and through Ray actors, two workers, where items are hostile.
- `plain`: `parse` the gold answer in a box, `parse` the text, `verify`, one after the other in the
  main thread of one process, with math-verify's own time limits (SIGALRM).
- `pool`: the same function in a process pool of two.

The items are split into rounds; in each, the contestants run in turn, so that other load on the
machine affects all of them. Each contestant grades every item once, so that no cache helps in later
rounds. Rates per core are gradings per second of processor time of all participating processes;
ratios are medians over rounds. Loss is the rate with 2 % hostile items against the rate without,
wall clock. The last line printed is one JSON object; `ratio` is `clean_speedup`, plain math-verify
over ours in processor time.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from actors.cluster.ray_cluster import ActorSpec, Cluster
from actors.verifier.client import RayVerifier
from actors.verifier.worker import VerifierWorker
from bard_ray.config.schema import ClusterConfig
from bard_ray.records import Outcome, Verdict
from bard_ray.verify.process.grading import GradingProcess
from benchmarks.common import Arguments, Benchmark, Option, Record
from benchmarks.verifier_items import HOSTILE_SHARE, Known, clean_items, with_hostile

WORKERS = 2
MEMORY_MB = 2048
PEER_MEMORY_MB = 4096  # the peers have no memory limit; this protects the machine
WARM_ITEMS = 200
MAX_PENDING = 512


@dataclass
class Tally:
    """Results of one contestant by round."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)

    def book(self, items: Sequence[Known], correct: Sequence[bool], wall_s: float) -> None:
        """Add one round: its size, time and wrong verdicts."""
        self.sizes.append(len(items))
        self.wall_s.append(wall_s)
        self.mismatches += [
            f"{known.family}: {known.item.text[-80:]!r} against {known.item.gold!r}"
            for known, said in zip(items, correct, strict=True)
            if said != known.right
        ]

    def summary(self) -> dict[str, float]:
        """Rates and latencies over all rounds."""
        latencies = sorted(self.latencies_s)
        cpu = {"per_core_s": round(sum(self.sizes) / sum(self.cpu_s), 1)} if self.cpu_s else {}
        ends = (
            {
                "p50_ms": round(1e3 * latencies[len(latencies) // 2], 3),
                "p99_ms": round(1e3 * latencies[int(0.99 * (len(latencies) - 1))], 3),
            }
            if latencies
            else {}
        )
        rate = round(sum(self.sizes) / sum(self.wall_s), 1)
        return {"wall_per_s": rate, **cpu, **ends, "mismatches": len(self.mismatches)}


# --- the peers' way


def plain_grade(pair: tuple[str, str]) -> tuple[bool, float, float]:
    """Verdict, wall and processor seconds of one item; any error is a wrong answer."""
    from math_verify import parse, verify

    text, gold = pair
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        correct = bool(verify(parse(rf"\boxed{{{gold}}}"), parse(text)))
    except Exception:  # noqa: BLE001 what its callers do
        correct = False
    return correct, time.perf_counter() - wall, time.process_time() - cpu


def warm_peer() -> None:
    """Bound the memory and fill the caches of one peer process."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (PEER_MEMORY_MB << 20,) * 2)
    for known in clean_items(WARM_ITEMS, seed=-1):
        plain_grade((known.item.text, known.item.gold))


class Peers:
    """Worker processes that call math-verify, each in its main thread."""

    def __init__(self, size: int) -> None:
        self.executor = ProcessPoolExecutor(size, get_context("spawn"), warm_peer)
        list(self.executor.map(time.sleep, [0.1] * size))  # they warm up before this returns

    def grade(self, items: Sequence[Known], tally: Tally) -> None:
        """One round."""
        begun = time.perf_counter()
        pairs = [(known.item.text, known.item.gold) for known in items]
        results = list(self.executor.map(plain_grade, pairs, chunksize=4))
        tally.book(items, [r[0] for r in results], time.perf_counter() - begun)
        tally.latencies_s += [r[1] for r in results]
        tally.cpu_s.append(sum(r[2] for r in results))

    def close(self) -> None:
        """Stop the processes."""
        self.executor.shutdown()


# --- ours


def descendants_cpu_s(pid: int) -> float:
    """Processor seconds of all processes under this one, ended and waited-for ones included."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            if "bard_ray.verify.process.zygote" in Path(f"/proc/{child}/cmdline").read_text():
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
                total += descendants_cpu_s(child)
    return total


def is_correct(verdicts: Sequence[Verdict]) -> list[bool]:
    """Whether each answer was graded correct."""
    return [verdict.outcome is Outcome.CORRECT for verdict in verdicts]


async def ours_round(process: GradingProcess, items: Sequence[Known], tally: Tally) -> None:
    """Grade one round in one grading process."""
    cpu = time.process_time() + descendants_cpu_s(os.getpid())
    begun = time.perf_counter()
    verdicts = await process.grade_batch([known.item for known in items])
    tally.book(items, is_correct(verdicts), time.perf_counter() - begun)
    tally.cpu_s.append(time.process_time() + descendants_cpu_s(os.getpid()) - cpu)
    tally.latencies_s += [verdict.seconds for verdict in verdicts]


async def one_core(items: list[Known], rounds: int, limit_s: float) -> dict[str, Any]:
    """Clean items: ours in one grading process, plain math-verify in another."""
    ours, plain, plain_pool = Tally(), Tally(), Tally()
    process, peer, pool = GradingProcess(limit_s, MEMORY_MB), Peers(1), Peers(WORKERS)
    try:
        await process.grade_batch([known.item for known in clean_items(WARM_ITEMS, seed=-1)])
        for number in range(rounds):
            block = items[number::rounds]
            await ours_round(process, block, ours)
            await asyncio.to_thread(peer.grade, block, plain)
            await asyncio.to_thread(pool.grade, block, plain_pool)
    finally:
        peer.close()
        pool.close()
        await asyncio.to_thread(process.close)
    for complaint in plain.mismatches[:10]:
        print("  plain math-verify differs from the truth:", complaint)
    for complaint in ours.mismatches[:10]:
        print("  OURS DIFFERS FROM THE TRUTH:", complaint)
    return {
        "clean_speedup": ratio(plain.cpu_s, ours.cpu_s),
        "clean_speedup_wall": ratio(plain.wall_s, ours.wall_s),
        "verdict_mismatches": len(ours.mismatches),
        "plain_mismatches": len(plain.mismatches),
        "ours": ours.summary(),
        "plain": plain.summary(),
        "pool": plain_pool.summary(),
    }


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Median over rounds."""
    pairs = zip(slower, faster, strict=True)
    return round(statistics.median(a / max(b, 1e-9) for a, b in pairs), 2)


async def two_cores(items: list[Known], rounds: int, limit_s: float) -> dict[str, Any]:
    """Ours through Ray with two workers: clean and hostile rounds in turn."""
    clean, hostile = Tally(), Tally()
    mixed = with_hostile(items, seed=1)
    with tempfile.TemporaryDirectory() as logs:
        cluster = Cluster(
            ClusterConfig(cpus=WORKERS, object_store_mb=128), Path(logs), verbose=False
        )
        try:
            pool = await start_pool(cluster, limit_s)
            await pool.grade([known.item for known in clean_items(2 * WARM_ITEMS, seed=-1)])
            for number in range(rounds):
                for source, tally in ((items, clean), (mixed, hostile)):
                    block = source[number::rounds]
                    begun = time.perf_counter()
                    verdicts = await pool.grade([known.item for known in block])
                    tally.book(block, is_correct(verdicts), time.perf_counter() - begun)
            stats = pool.stats()
        finally:
            cluster.close()
    for complaint in (clean.mismatches + hostile.mismatches)[:10]:
        print("  OURS DIFFERS FROM THE TRUTH:", complaint)
    return {
        "hostile_throughput_loss": round(1 - sum(clean.wall_s) / sum(hostile.wall_s), 4),
        "worst_over_limit_s": round(max(0.0, stats["worst_s"] - limit_s), 4),
        "pool_mismatches": len(clean.mismatches) + len(hostile.mismatches),
        "ours_pool_clean": clean.summary(),
        "ours_pool_hostile": hostile.summary(),
        "pool_stats": stats,
    }


async def start_pool(cluster: Cluster, limit_s: float) -> RayVerifier:
    """A verifier pool, started as in a run."""
    cluster.connect()
    await cluster.reserve([{"CPU": 1.0}] * WORKERS)

    def spawn(index: int) -> Any:
        spec = ActorSpec(f"verifier-{index}", index, 1.0, 0.0)
        return cluster.spawn(VerifierWorker, spec, limit_s, MEMORY_MB)

    pool = RayVerifier(WORKERS, spawn, cluster.kill, limit_s, MAX_PENDING)
    await pool.start()
    return pool


def peers_hostile(items: list[Known]) -> dict[str, Any]:
    """The peers' pool, clean and hostile; few items, because hostile ones block it."""
    clean, hostile, pool = Tally(), Tally(), Peers(WORKERS)
    try:
        pool.grade(items, clean)
        pool.grade(with_hostile(items, seed=1), hostile)
    finally:
        pool.close()
    return {
        "peers_hostile_throughput_loss": round(1 - clean.wall_s[0] / hostile.wall_s[0], 4),
        "peers_slowest_s": round(max(hostile.latencies_s), 2),
        "peers_hostile_items": len(items),
    }


def render(record: Record) -> str:
    """One line per contestant, then the ratios."""
    columns = ("wall_per_s", "per_core_s", "p50_ms", "p99_ms", "mismatches")
    lines = [f"{'':<20}" + "".join(f"{column:>12}" for column in columns)]
    for name in ("ours", "plain", "pool", "ours_pool_clean", "ours_pool_hostile"):
        row = record[name]
        lines.append(f"{name:<20}" + "".join(f"{row.get(column, ''):>12}" for column in columns))
    loss, peers = record["hostile_throughput_loss"], record["peers_hostile_throughput_loss"]
    lost = (
        f"throughput lost to {HOSTILE_SHARE:.0%} hostile items: ours {loss:.1%}, pool {peers:.1%}"
    )
    over = f"longest time over the limit {record['worst_over_limit_s']} s"
    return "\n".join([*lines, f"clean speed-up per core {record['clean_speedup']}", lost, over])


def measure(arguments: Arguments) -> Record:
    """All measurements."""
    items = clean_items(arguments.items, seed=arguments.seed)
    rounds, limit_s = arguments.rounds, arguments.limit
    return {
        **asyncio.run(one_core(items, rounds, limit_s)),
        **asyncio.run(two_cores(items, rounds, limit_s)),
        **peers_hostile(items[: arguments.peer_items]),
    }


def summarize(figures: Record) -> Record:
    """The figures of all contestants; the ratio is the clean speed-up."""
    return {"ratio": figures["clean_speedup"], **figures}


OPTIONS = (
    Option("items", 3000, 300),
    Option("peer_items", 600, 50, "for the peers' hostile mix"),
    Option("rounds", 5, 3),
    Option("limit", 5.0, 2.0, "seconds for one item, ours"),
    Option("seed", 0),
)
BENCHMARK = Benchmark("verifier", __doc__, measure, summarize, render, OPTIONS, target=5.0)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
