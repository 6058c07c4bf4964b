"""The verifier client over fake workers: spreading, back-pressure, lost workers, counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions as rex

from actors.verifier.client import MAX_PART, RayVerifier
from bard_ray.errors import InvariantError
from bard_ray.metrics import TABLE
from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.regrade import grade_with_retries
from bard_ray.verify.process.lanes import Counts

CORRECT, WRONG, BROKEN = Outcome.CORRECT, Outcome.WRONG, Outcome.BROKEN
Work = Callable[[list[GradeItem]], Coroutine[Any, Any, None]]


class GradingWorker:
    """A fake grading actor; `work` determines how long a call takes, or how it fails."""

    def __init__(self, work: Work) -> None:
        self.work, self.held, self.most_held, self.sizes = work, 0, 0, list[int]()
        self.grade = SimpleNamespace(remote=self._grade)
        self.ping = SimpleNamespace(remote=self._ping)

    async def _ping(self) -> bool:
        return True

    async def _grade(self, items: list[GradeItem]) -> tuple[list[Verdict], Counts]:
        self.held += len(items)
        self.most_held = max(self.most_held, self.held)
        self.sizes.append(len(items))
        try:
            await self.work(items)
        finally:
            self.held -= len(items)
        return [Verdict(CORRECT if i.text == i.gold else WRONG, i.text) for i in items], Counts()


class VerifierPool:
    """A client and all workers that it spawned."""

    def __init__(self, size: int, work: Work, max_pending: int = 512) -> None:
        self.work, self.workers, self.killed = work, list[GradingWorker](), list[GradingWorker]()
        self.verifier = RayVerifier(size, self._spawn, self._kill, 1.0, max_pending)

    def _spawn(self, index: int) -> Any:
        self.workers.append(GradingWorker(self.work))
        return self.workers[-1]

    def _kill(self, worker: Any) -> None:
        self.killed.append(worker)


async def instantly(items: list[GradeItem]) -> None:
    await asyncio.sleep(0)


async def shortly(items: list[GradeItem]) -> None:
    await asyncio.sleep(0.002)


def numbers(count: int, start: int = 0) -> list[GradeItem]:
    """Items of which every third is wrong."""
    return [
        GradeItem(str(n), "no" if n % 3 == 0 else str(n), "string")
        for n in range(start, start + count)
    ]


def truth(items: list[GradeItem]) -> list[Outcome]:
    return [CORRECT if item.text == item.gold else WRONG for item in items]


def balanced(stats: dict[str, float]) -> bool:
    return stats["asked"] == stats["graded"] + stats["broken"] + stats["abandoned"]


async def test_a_large_batch_uses_all_workers_and_comes_back_in_order():
    pool, items = VerifierPool(3, shortly), numbers(1000)
    verdicts = await pool.verifier.grade(items)
    assert [v.extracted for v in verdicts] == [str(n) for n in range(1000)]
    assert [v.outcome for v in verdicts] == truth(items)
    shares = [sum(worker.sizes) for worker in pool.workers]
    assert min(shares) > 1000 / 3 - 2 * MAX_PART
    assert pool.verifier.stats()["graded"] == 1000
    assert pool.verifier.pending == [0, 0, 0]


async def test_no_worker_ever_holds_more_than_its_bound():
    pool = VerifierPool(2, shortly, max_pending=100)
    batches = [numbers(size) for size in (1000, 7, 300, 64, 1, 500)]
    results = await asyncio.gather(*(pool.verifier.grade(batch) for batch in batches))
    assert [[v.outcome for v in r] for r in results] == [truth(batch) for batch in batches]
    assert max(worker.most_held for worker in pool.workers) <= 100


async def test_a_bound_smaller_than_a_part_still_grades_all_items():
    pool = VerifierPool(1, instantly, max_pending=3)
    assert len(await pool.verifier.grade(numbers(50))) == 50
    assert pool.workers[0].most_held <= 3


async def test_a_small_batch_does_not_wait_for_all_of_a_large_one():
    pool = VerifierPool(1, shortly, max_pending=64)
    large = asyncio.create_task(pool.verifier.grade(numbers(64 * 40)))
    await asyncio.sleep(0.005)
    await pool.verifier.grade(numbers(16))
    assert pool.workers[0].sizes.index(16) < 20  # of 41 calls
    assert not large.done()
    await large


async def test_a_hanging_call_does_not_block_the_other_worker():
    release = asyncio.Event()

    async def work(items: list[GradeItem]) -> None:
        if items[0].text == "-1":
            await release.wait()

    pool = VerifierPool(2, work, max_pending=64)
    hanging = asyncio.create_task(pool.verifier.grade([GradeItem("-1", "-1", "string")] * 64))
    assert len(await pool.verifier.grade(numbers(1000))) == 1000
    assert not hanging.done()
    release.set()
    await hanging


async def test_a_lost_worker_is_replaced_and_its_items_are_graded_again():
    calls = 0

    async def work(items: list[GradeItem]) -> None:
        nonlocal calls
        calls += 1
        lost = calls in {2, 5}
        await asyncio.sleep(0.001)
        if lost:
            raise rex.ActorDiedError

    pool, items = VerifierPool(2, work), numbers(640)
    verdicts = await pool.verifier.grade(items)
    assert [v.outcome for v in verdicts] == truth(items)
    stats = pool.verifier.stats()
    assert (stats["graded"], stats["broken"], stats["reissued"]) == (640, 0, 2 * MAX_PART)
    assert stats["workers_replaced"] == len(pool.killed) >= 1


async def test_items_that_lose_every_worker_are_broken_and_a_retry_grades_them():
    deaths = iter(range(3))

    async def work(items: list[GradeItem]) -> None:
        if items[0].text == "0" and next(deaths, None) is not None:
            raise rex.ActorDiedError

    pool, items = VerifierPool(2, work), numbers(16)
    verdicts, given = await grade_with_retries(pool.verifier, items)
    assert [v.outcome for v in verdicts] == truth(items)
    stats = pool.verifier.stats()
    assert given[BROKEN] == stats["broken"] == 8  # one part of two
    assert (stats["asked"], stats["graded"]) == (24, 16)
    assert balanced(stats)


async def test_a_canceled_caller_leaves_the_pool_free_for_the_next_one():
    async def forever(items: list[GradeItem]) -> None:
        await asyncio.sleep(0 if items[0].gold == "next" else 60)

    pool = VerifierPool(2, forever, max_pending=64)
    tasks = [asyncio.create_task(pool.verifier.grade(numbers(500))) for _ in range(3)]
    for pause in (0, 0.01):  # one before its first call was even sent
        await asyncio.sleep(pause)
        tasks.pop().cancel()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert pool.verifier.pending == [0, 0]
    follower = [GradeItem("next", "next", "string")] * 200
    assert [v.outcome for v in await pool.verifier.grade(follower)] == [CORRECT] * 200
    assert balanced(pool.verifier.stats())


async def test_an_error_that_no_replacement_can_fix_reaches_the_caller():
    async def work(items: list[GradeItem]) -> None:
        raise InvariantError("a bug")

    pool = VerifierPool(2, work)
    with pytest.raises(InvariantError, match="a bug"):
        await pool.verifier.grade(numbers(200))
    await asyncio.sleep(0.01)
    assert pool.verifier.pending == [0, 0]


async def test_an_empty_batch_calls_no_worker():
    pool = VerifierPool(1, instantly)
    assert await pool.verifier.grade([]) == []
    assert pool.workers[0].sizes == []


async def test_the_metrics_of_the_pool_are_in_the_table_and_count_losses():
    first = True

    async def work(items: list[GradeItem]) -> None:
        nonlocal first
        if first:
            first = False
            raise rex.ActorDiedError

    pool = VerifierPool(1, work)
    await pool.verifier.grade(numbers(8))
    metrics = pool.verifier.metrics()
    assert set(metrics) <= set(TABLE)
    assert (metrics["grading/reissued"], metrics["grading/workers_replaced"]) == (8, 1)
