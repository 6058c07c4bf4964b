"""What the grading process promises: hard limits, nothing lost, nothing left behind. Linux: it
looks into /proc.
"""

import asyncio
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from actors.verifier import VerifierWorker
from bard_ray.errors import InfrastructureError
from bard_ray.records import GradeItem, Outcome
from bard_ray.verify.process import CHUNK_ITEMS, GradingProcess

LIMIT_S = 1.0
MEMORY_MB = 600
# Freezes the whole process: the power is one C call that holds the GIL.
BOMB = GradeItem(r"\boxed{9^{9^{9^9}}}", "5", "math")
GOOD = GradeItem(r"\boxed{1+x}", "x+1", "math")
BAD = GradeItem(r"\boxed{4}", "5", "integer")
CORRECT, WRONG, TIMEOUT, BROKEN = Outcome.CORRECT, Outcome.WRONG, Outcome.TIMEOUT, Outcome.BROKEN


@pytest.fixture
def process() -> Iterator[GradingProcess]:
    with closing(GradingProcess(LIMIT_S, MEMORY_MB)) as it:
        yield it


async def outcomes(process: GradingProcess, items: list[GradeItem]) -> list[Outcome]:
    return [verdict.outcome for verdict in await process.grade_batch(items)]


def children(pid: int) -> list[int]:
    """Direct children of a process, from any of its threads."""
    found = []
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in entry.read_text().split()]
    return found


def zygote() -> int:
    (pid,) = (
        p
        for p in children(os.getpid())
        if "bard_ray.verify.zygote" in Path(f"/proc/{p}/cmdline").read_text()
    )
    return pid


def grader() -> int:
    (pid,) = children(zygote())
    return pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().split()[13:15]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def peak_memory_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmPeak:")[1].split()[0])


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def until(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    for _ in range(int(limit_s / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"did not happen within {limit_s} s")


async def kill_grader_when_busy() -> None:
    """SIGKILL the child that is grading, once it has worked for a while on one item."""
    pid = grader()
    await until(lambda: cpu_s(pid) > 0.2)
    os.kill(pid, signal.SIGKILL)


async def test_a_bomb_costs_its_limit_and_the_rest_is_graded(process: GradingProcess) -> None:
    await process.start()
    begun = time.perf_counter()
    assert await outcomes(process, [GOOD, BAD, BOMB, GOOD, BAD]) == [
        CORRECT,
        WRONG,
        TIMEOUT,
        CORRECT,
        WRONG,
    ]
    assert time.perf_counter() - begun < LIMIT_S + 0.5


async def test_a_bomb_at_the_end_does_not_go_on_burning(process: GradingProcess) -> None:
    await process.start()
    bombed = grader()
    assert await outcomes(process, [BOMB]) == [TIMEOUT]
    assert not is_alive(bombed)


async def test_the_event_loop_runs_while_a_bomb_is_graded(process: GradingProcess) -> None:
    await process.start()
    batch = asyncio.create_task(process.grade_batch([BOMB]))
    longest = 0.0
    while not batch.done():
        begun = time.perf_counter()
        await asyncio.sleep(0.01)
        longest = max(longest, time.perf_counter() - begun)
    assert longest < 0.5


async def test_a_child_killed_once_loses_nothing(process: GradingProcess) -> None:
    await process.start()
    batch = asyncio.create_task(outcomes(process, [GOOD, BOMB, BAD]))
    await kill_grader_when_busy()
    # The item it was on is tried again, and shows what it is.
    assert await batch == [CORRECT, TIMEOUT, WRONG]


async def test_an_item_whose_child_dies_twice_is_broken_and_the_rest_is_graded(
    process: GradingProcess,
) -> None:
    await process.start()
    first = grader()
    batch = asyncio.create_task(process.grade_batch([GOOD, BOMB, BAD]))
    await kill_grader_when_busy()
    await until(lambda: children(zygote()) not in ([], [first]))
    await kill_grader_when_busy()
    verdicts = await batch
    assert [v.outcome for v in verdicts] == [CORRECT, BROKEN, WRONG]
    assert verdicts[1].rule == "process_died"


async def test_a_lost_zygote_is_replaced(process: GradingProcess) -> None:
    await process.start()
    lost = zygote()
    os.kill(lost, signal.SIGKILL)
    assert await outcomes(process, [GOOD, BAD]) == [CORRECT, WRONG]
    assert zygote() != lost


async def test_memory_is_bounded() -> None:
    with closing(GradingProcess(limit_s=20.0, memory_mb=256)) as process:
        await process.start()
        pid = grader()
        hog = GradeItem(r"\boxed{2^{10^{10}}}", "5", "math")  # more than 1 GB, if it were allowed
        first, second = await outcomes(process, [hog, GOOD])
        assert first is not CORRECT
        assert second is CORRECT
        assert grader() == pid  # refused the memory, it lives: no time limit was needed
        assert peak_memory_kb(pid) <= 256 * 1024


async def test_a_batch_larger_than_a_chunk_keeps_its_order(process: GradingProcess) -> None:
    items = [
        GradeItem(rf"\boxed{{{n}}}" + "x" * 1000, str(n - n % 2), "integer")
        for n in range(2 * CHUNK_ITEMS + 3)
    ]
    verdicts = await process.grade_batch(items)
    assert [v.extracted for v in verdicts] == [str(n) for n in range(len(items))]
    assert [v.outcome for v in verdicts] == [WRONG if n % 2 else CORRECT for n in range(len(items))]


async def test_batches_sent_together_do_not_mix(process: GradingProcess) -> None:
    results = await asyncio.gather(*(outcomes(process, [GOOD] * n + [BAD]) for n in range(5)))
    assert results == [[CORRECT] * n + [WRONG] for n in range(5)]


async def test_a_cancelled_batch_stops_and_the_next_one_is_right(process: GradingProcess) -> None:
    await process.start()
    batch = asyncio.create_task(process.grade_batch([BOMB] * 20))
    await asyncio.sleep(0.1)
    batch.cancel()
    begun = time.perf_counter()
    assert await outcomes(process, [BAD, GOOD]) == [WRONG, CORRECT]
    assert time.perf_counter() - begun < 2 * LIMIT_S + 1.0


async def test_closing_leaves_no_process(process: GradingProcess) -> None:
    await process.start()
    pids = [zygote(), grader()]
    batch = asyncio.create_task(outcomes(process, [GOOD, BOMB, BAD]))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(process.close)
    assert await batch == [CORRECT, BROKEN, BROKEN]
    assert not any(is_alive(pid) for pid in pids)
    assert await outcomes(process, [GOOD]) == [BROKEN]
    with pytest.raises(InfrastructureError, match="closed"):
        await process.start()


async def test_nothing_outlives_a_killed_parent() -> None:
    program = (
        "import asyncio, time\n"
        "from bard_ray.verify.process import GradingProcess\n"
        "process = GradingProcess(60.0, 600)\n"
        "asyncio.run(process.start()); print('ready', flush=True); time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert parent.stdout is not None
    await parent.stdout.readline()
    (orphan,) = children(parent.pid)
    orphans = [orphan, *children(orphan)]
    parent.kill()
    await parent.wait()
    assert len(orphans) == 2
    await until(lambda: not any(is_alive(pid) for pid in orphans), limit_s=2.0)


async def test_secrets_stay_out_of_the_child(
    process: GradingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    await process.start()
    assert b"HF_TOKEN" not in environment(grader())


async def test_a_grader_that_cannot_be_imported_is_broken_not_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vanishing_grader.py").write_text("def grade(item):\n    return None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    vanishing_grader = importlib.import_module("vanishing_grader")
    with closing(GradingProcess(LIMIT_S, MEMORY_MB, grade=vanishing_grader.grade)) as process:
        (tmp_path / "vanishing_grader.py").unlink()
        verdicts = await process.grade_batch([GOOD, GOOD])
        assert [(v.outcome, v.rule) for v in verdicts] == [(BROKEN, "no_process")] * 2
        with pytest.raises(InfrastructureError, match="did not start"):
            await process.start()


async def test_the_worker_grades_and_answers_pings_while_it_does() -> None:
    worker = VerifierWorker(LIMIT_S, MEMORY_MB)
    try:
        assert await worker.ping()
        batch = asyncio.create_task(worker.grade([BOMB, GOOD]))
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(worker.ping(), LIMIT_S / 2)
        assert not batch.done()
        assert [v.outcome for v in await batch] == [TIMEOUT, CORRECT]
    finally:
        await worker.close()
