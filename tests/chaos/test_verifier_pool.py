"""SIGKILL of grading processes, zygotes and actors while a real pool grades.

Every item gets exactly one verdict, and the correct one.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from actors.cluster.ray_cluster import ActorSpec, Cluster
from actors.verifier.client import RayVerifier
from actors.verifier.worker import VerifierWorker
from bard_ray.config.schema import ClusterConfig
from bard_ray.records import GradeItem, Outcome
from bard_ray.regrade import grade_with_retries

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(300)]

ITEMS, KILLS, WORKERS = 12_000, 24, 2
LIMIT_S, MEMORY_MB = 20.0, 2048
PAUSE_S = 0.25  # between two kills


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    it = Cluster(ClusterConfig(cpus=2, object_store_mb=128), tmp_path, verbose=False)
    it.connect()
    yield it
    it.close()


def make_items(count: int, generator: random.Random) -> tuple[list[GradeItem], list[Outcome]]:
    """Integers, fractions and polynomials with their true outcomes; no two items are the same."""
    items, truth = [], []
    for n in range(count):
        right = generator.random() < 0.5
        value = n if right else n + 1
        kind = generator.randrange(20)
        answer = rf"\frac{{{2 * value}}}{{14}}" if kind > 13 else str(value)
        gold = f"{n}/7" if kind > 13 else str(n)
        if kind == 0:  # math-verify decides
            answer, gold = f"{value}+x", f"x+{n}"
        items.append(GradeItem(rf"So it is \boxed{{{answer}}}.", gold, "math"))
        truth.append(Outcome.CORRECT if right else Outcome.WRONG)
    return items, truth


def children(pid: int) -> list[int]:
    found: list[int] = []
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, entry.read_text().split())
    return found


def is_zygote_or_grader(pid: int) -> bool:
    try:
        return "bard_ray.verify.process.zygote" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


class Killer:
    """Kills grading processes, zygotes and actors one after another, in a fixed order of kinds."""

    def __init__(self, logs: Path, generator: random.Random) -> None:
        self.logs, self.generator = logs, generator
        self.killed: Counter[str] = Counter()

    def actors(self) -> list[int]:
        """Process ids of the live actors, from their logs."""
        logs = [log.read_text() for log in self.logs.glob("verifier-*.log")]
        newest = [int(text.rsplit("process ", 1)[1].split()[0]) for text in logs]
        return [pid for pid in newest if Path(f"/proc/{pid}").exists()]

    def strike(self, kind: str) -> None:
        actors = self.actors()
        zygotes = [p for a in actors for p in children(a) if is_zygote_or_grader(p)]
        graders = [p for z in zygotes for p in children(z) if is_zygote_or_grader(p)]
        victims = {"actor": actors, "zygote": zygotes, "child": graders}[kind]
        if victims:
            with suppress(ProcessLookupError):
                os.kill(self.generator.choice(victims), signal.SIGKILL)
                self.killed[kind] += 1

    async def run(self) -> None:
        kinds = ["child", "zygote", "child", "child", "actor", "child", "zygote", "child"]
        while self.killed.total() < KILLS:
            await asyncio.sleep(PAUSE_S * self.generator.uniform(0.5, 1.5))
            self.strike(kinds[self.killed.total() % len(kinds)])


async def test_every_item_gets_one_correct_verdict_whatever_is_killed(
    cluster: Cluster, tmp_path: Path
) -> None:
    await cluster.reserve([{"CPU": 0.5}] * WORKERS)

    def spawn(index: int):
        spec = ActorSpec(f"verifier-{index}", index, 0.5, 0.0)
        return cluster.spawn(VerifierWorker, spec, LIMIT_S, MEMORY_MB)

    pool = RayVerifier(WORKERS, spawn, cluster.kill, LIMIT_S, max_pending=256)
    await pool.start()
    generator = random.Random(7)
    killer = Killer(tmp_path, generator)
    killing = asyncio.create_task(killer.run())
    given: Counter[Outcome] = Counter()
    asked = 0
    begun = time.monotonic()
    # Small and large batches concurrently, until both the items and the kills are done.
    while asked < ITEMS or not killing.done():
        items, truth = make_items(2000, generator)
        cuts = [0, 16, 32, 48, 64, 1000, 2000]
        batches = [slice(a, b) for a, b in pairwise(cuts)]
        results = await asyncio.gather(*(grade_with_retries(pool, items[b]) for b in batches))
        for cut, (verdicts, counts) in zip(batches, results, strict=True):
            assert [v.outcome for v in verdicts] == truth[cut]
            given += counts
        asked += len(items)
    await killing
    stats = pool.stats()
    report = f"{asked} items, killed {dict(killer.killed)}, {time.monotonic() - begun:.0f} s"
    print(report, dict(given), stats)
    assert asked >= 10_000
    assert killer.killed.total() >= 20
    assert given[Outcome.CORRECT] + given[Outcome.WRONG] == asked
    assert given.total() == asked + given[Outcome.BROKEN] == stats["asked"]
    assert stats["graded"] == asked
    assert stats["broken"] == given[Outcome.BROKEN]
    assert stats["abandoned"] == 0
    assert (
        stats["workers_replaced"] >= killer.killed["actor"] - 1
    )  # the loss of the last one may go unnoticed
    assert stats["retried"] + stats["reissued"] > 0
    assert pool.pending == [0] * WORKERS
