"""Ten thousand gradings while children, zygotes and actors are killed at random: nothing is lost,
nothing is graded twice, nothing becomes wrong.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from actors.cluster import ActorSpec, Cluster
from actors.settings import apply_driver_env
from actors.verifier import VerifierWorker
from actors.verifier_client import RayVerifier
from bard_ray.config.schema import ClusterConfig
from bard_ray.records import GradeItem, Outcome
from bard_ray.verify.regrade import grade_surely

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(300)]

GRADINGS = 10_000
KILLS = 24


def items() -> list[tuple[GradeItem, Outcome]]:
    """Answers with a known verdict; every fiftieth one needs sympy."""
    work = []
    for n in range(GRADINGS):
        right = n % 3 != 0
        gold = str(n) if right else str(n + 1)
        if n % 50 == 0:
            answer, gold = rf"\boxed{{{n}x+\sqrt{{2}}}}", rf"\sqrt{{2}}+{gold}x"
            work.append((GradeItem(answer, gold, "math"), right))
        else:
            work.append((GradeItem(rf"\boxed{{{n}}}", gold, "integer"), right))
    return [(item, Outcome.CORRECT if right else Outcome.WRONG) for item, right in work]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    apply_driver_env()
    os.environ.pop("RAY_ADDRESS", None)
    cluster = Cluster(ClusterConfig(cpus=4, object_store_mb=100), tmp_path, verbose=False)
    cluster.connect()
    asyncio.run(cluster.reserve([{"CPU": 1.0}]))
    yield cluster
    cluster.close()


def parents() -> dict[int, int]:
    """Every process and its parent."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    return found


def victims(what: str) -> list[int]:
    """Our own actors, zygotes or grading children; nobody else's."""
    tree = parents()
    ours = {os.getpid()}
    for _ in range(8):  # levels: driver, raylet, actor, zygote, child
        ours |= {pid for pid, parent in tree.items() if parent in ours}

    def says(pid: int, text: str) -> bool:
        with suppress(OSError):
            return text in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        return False

    if what == "actor":
        return sorted(pid for pid in ours if says(pid, "ray::VerifierWorker"))
    graders = {pid for pid in ours if says(pid, "bard_ray.verify.zygote")}
    children = {pid for pid in graders if tree[pid] in graders}
    return sorted(children if what == "child" else graders - children)


async def kill_at_random(rng: random.Random) -> int:
    """Mostly children; a zygote or an actor is given time to come back before the next kill."""
    kills = 0
    while kills < KILLS:
        what = ("child", "child", "child", "zygote", "child", "child", "child", "actor")[kills % 8]
        await asyncio.sleep(rng.uniform(0.05, 0.4))
        if found := victims(what):
            with suppress(ProcessLookupError):
                os.kill(rng.choice(found), signal.SIGKILL)
                kills += 1
            await asyncio.sleep(0.0 if what == "child" else 2.0)
    return kills


async def test_every_item_is_graded_exactly_once(cluster: Cluster) -> None:
    def spawn(index: int) -> object:
        return cluster.spawn(VerifierWorker, ActorSpec(f"grader-{index}", 0, 0.1, 0.0), 20.0, 1024)

    verifier = RayVerifier(2, spawn, cluster.kill, limit_s=20.0, max_pending=128)
    await verifier.start()
    work = items()
    killer = asyncio.create_task(kill_at_random(random.Random(0)))
    rounds = [work[start : start + 1000] for start in range(0, GRADINGS, 1000)]
    graded = 0
    while not killer.done() or rounds:  # the work is gone through again until all kills are done
        batch = rounds.pop() if rounds else work[:1000]
        verdicts, given = await grade_surely(verifier, [item for item, _ in batch])
        assert [v.outcome for v in verdicts] == [truth for _, truth in batch]
        assert sum(given.values()) == len(batch) + given[Outcome.BROKEN]
        graded += len(batch)
    assert await killer == KILLS
    assert graded >= GRADINGS
    assert verifier.pending == [0, 0]
    stats = verifier.stats()
    assert stats["workers_replaced"] >= 1
    assert stats["deaths"] >= stats["retried"] >= 1
