"""What the grading process promises: hard limits, nothing lost, nothing left behind. Linux: it
looks into /proc.
"""

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from actors.verifier.worker import VerifierWorker
from bard_ray.errors import InfrastructureError
from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.regrade import grade_with_retries
from bard_ray.verify.grade import grade
from bard_ray.verify.kinds import register_kinds
from bard_ray.verify.process.grading import GradingProcess, grade_once
from bard_ray.verify.process.lanes import CHUNK_ITEMS, SLOW_LANES

LIMIT_S = 2.0
MEMORY_MB = 600
BOMB = GradeItem("burn", "5", "math")
HOG = GradeItem("eat", "5", "math")
GOOD = GradeItem(r"\boxed{1+x}", "x+1", "math")
BAD = GradeItem(r"\boxed{4}", "5", "integer")
CORRECT, WRONG, TIMEOUT, BROKEN = Outcome.CORRECT, Outcome.WRONG, Outcome.TIMEOUT, Outcome.BROKEN


def grade_or_burn(item: GradeItem) -> Verdict:
    """Grades, but freezes its whole process on a bomb: the power is one call that holds the GIL."""
    if item.text == BOMB.text:
        return Verdict(CORRECT, str(9**9**9))
    if item.text == HOG.text:
        return Verdict(CORRECT, str(len(bytearray(1 << 31))))
    return grade(item)


@pytest.fixture
def process() -> Iterator[GradingProcess]:
    with closing(GradingProcess(LIMIT_S, MEMORY_MB, grade_or_burn)) as it:
        yield it


async def outcomes(process: GradingProcess, items: list[GradeItem]) -> list[Outcome]:
    return [verdict.outcome for verdict in await process.grade_batch(items)]


def children(pid: int) -> list[int]:
    """Direct children of a process, from any of its threads."""
    found = []
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has ended
            found += [int(child) for child in entry.read_text().split()]
    return found


def grading_processes(parent: int) -> list[int]:
    """Zygotes among the children of this process, graders among those of a zygote."""
    found = []
    for pid in children(parent):
        with suppress(OSError):  # it has ended
            if "bard_ray.verify.process.zygote" in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(pid)
    return found


def zygote() -> int:
    (pid,) = grading_processes(os.getpid())
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
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().split()[13:15]
    except OSError:  # it has ended
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def address_space_limit(pid: int) -> str:
    limits = Path(f"/proc/{pid}/limits").read_text()
    return limits.split("Max address space")[1].split("\n")[0]


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def until(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    for _ in range(int(limit_s / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"did not happen within {limit_s} s")


async def kill_busy_grader() -> None:
    """SIGKILL a child that has worked for a while on one item."""

    def busy() -> list[int]:
        return [pid for pid in children(zygote()) if is_alive(pid) and cpu_s(pid) > 0.2]

    await until(lambda: bool(busy()))
    victim = busy()[0]
    os.kill(victim, signal.SIGKILL)
    await until(lambda: not is_alive(victim))


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
    await until(lambda: not is_alive(bombed))


async def test_the_event_loop_runs_while_a_bomb_is_graded(process: GradingProcess) -> None:
    await process.start()
    batch = asyncio.create_task(process.grade_batch([BOMB]))
    longest = 0.0
    while not batch.done():
        begun = time.perf_counter()
        await asyncio.sleep(0.01)
        longest = max(longest, time.perf_counter() - begun)
    assert longest < LIMIT_S / 2  # a thread that held the GIL would stop it for the whole limit


async def test_a_child_killed_once_loses_nothing() -> None:
    with closing(GradingProcess(3.0, MEMORY_MB, grade_or_burn)) as process:
        await process.start()
        batch = asyncio.create_task(outcomes(process, [GOOD, BOMB, BAD]))
        await kill_busy_grader()
        # The item it was on is tried again, and shows what it is.
        assert await batch == [CORRECT, TIMEOUT, WRONG]
        counts = process.counts()
        assert (counts.deaths, counts.retried, counts.broken) == (1, 1, 0)


async def test_an_item_whose_child_dies_twice_is_broken_and_the_rest_is_graded() -> None:
    with closing(GradingProcess(30.0, MEMORY_MB, grade_or_burn)) as process:
        await process.start()
        batch = asyncio.create_task(process.grade_batch([GOOD, BOMB, BAD]))
        await kill_busy_grader()
        await kill_busy_grader()
        verdicts = await batch
        assert [v.outcome for v in verdicts] == [CORRECT, BROKEN, WRONG]
        assert verdicts[1].rule == "process_died"
        counts = process.counts()
        assert (counts.graded, counts.deaths, counts.broken) == (3, 2, 1)


async def test_a_lost_zygote_is_replaced(process: GradingProcess) -> None:
    await process.start()
    lost, orphan = zygote(), grader()
    os.kill(lost, signal.SIGKILL)
    await until(lambda: not is_alive(orphan))  # it dies with its zygote
    assert await outcomes(process, [GOOD, BAD]) == [CORRECT, WRONG]
    assert zygote() != lost


def hang_or_answer(item: GradeItem) -> Verdict:
    """A grader that sleeps for as many seconds as the text says."""
    if item.kind == "string":
        time.sleep(float(item.text or "0"))
    return Verdict(CORRECT, item.text)


async def test_items_that_hang_are_overtaken_by_the_others() -> None:
    with closing(GradingProcess(2.0, MEMORY_MB, hang_or_answer)) as process:
        await process.start()
        hanging = asyncio.create_task(outcomes(process, [sleep("60")] * SLOW_LANES + [sleep("")]))
        await asyncio.sleep(0.05)
        begun = time.perf_counter()
        assert await outcomes(process, [sleep("")] * 300) == [CORRECT] * 300
        assert time.perf_counter() - begun < 1.5  # before the first of the hanging ones ends
        assert await hanging == [TIMEOUT] * SLOW_LANES + [CORRECT]
        counts = process.counts()
        assert (counts.graded, counts.timeouts, counts.demoted) == (303, 2, 2)
        assert counts.worst_s < 2.5


async def test_a_slow_answer_is_waited_for_while_the_others_pass_it() -> None:
    with closing(GradingProcess(2.0, MEMORY_MB, hang_or_answer)) as process:
        verdicts = await process.grade_batch([sleep("0.6"), sleep(""), sleep("0.5"), sleep("")])
        assert [v.outcome for v in verdicts] == [CORRECT] * 4
        assert [v.extracted for v in verdicts] == ["0.6", "", "0.5", ""]
        assert process.counts().demoted == 2


async def test_more_hanging_items_than_slow_lanes_all_end_at_their_limit() -> None:
    with closing(GradingProcess(0.5, MEMORY_MB, hang_or_answer)) as process:
        await process.start()
        begun = time.perf_counter()
        work = [sleep("60")] * (2 * SLOW_LANES + 1) + [sleep("")] * 3
        assert await outcomes(process, work) == [TIMEOUT] * 5 + [CORRECT] * 3
        assert time.perf_counter() - begun < 5 * 0.5 + 0.5
        assert process.counts().worst_s < 1.0


def sleep(seconds: str) -> GradeItem:
    return GradeItem(seconds, "", "string")


async def test_memory_is_bounded() -> None:
    with closing(GradingProcess(20.0, 256, grade_or_burn)) as process:
        await process.start()
        assert str(256 * 2**20) in address_space_limit(grader())
        first, second = await process.grade_batch([HOG, GOOD])
        assert (first.outcome, first.rule) == (TIMEOUT, "memory_limit")
        assert second.outcome is CORRECT
        assert (process.counts().memory, process.counts().deaths) == (1, 0)


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
    assert time.perf_counter() - begun < LIMIT_S


async def test_closing_leaves_no_process(process: GradingProcess) -> None:
    await process.start()
    pids = [zygote(), grader()]
    batch = asyncio.create_task(outcomes(process, [GOOD, BOMB, BAD]))
    await until(lambda: process.counts().graded == 2)
    await asyncio.to_thread(process.close)
    assert await batch == [CORRECT, BROKEN, WRONG]
    assert not any(is_alive(pid) for pid in pids)
    assert await outcomes(process, [GOOD]) == [BROKEN]
    with pytest.raises(InfrastructureError, match="closed"):
        await process.start()


async def test_nothing_outlives_a_killed_parent() -> None:
    program = (
        "import asyncio, time\n"
        "from bard_ray.verify.process.grading import GradingProcess\n"
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


KNOWN: list[str] = []


def register(words: list[str]) -> None:
    """A set-up function, as a registry of a user's graders would be."""
    KNOWN.extend(words)


def grade_known(item: GradeItem) -> Verdict:
    """Correct where the set-up named the text."""
    return Verdict(CORRECT if item.text in KNOWN else WRONG, item.text)


async def test_what_is_set_up_before_the_fork_is_known_to_every_child() -> None:
    words = GradeItem("seven", "", "string"), GradeItem("eight", "", "string")
    with closing(
        GradingProcess(LIMIT_S, MEMORY_MB, grade_known, setup=(register, ["seven"]))
    ) as process:
        assert await outcomes(process, [*words]) == [CORRECT, WRONG]
        os.kill(grader(), signal.SIGKILL)
        assert await outcomes(process, [*words]) == [CORRECT, WRONG]
    assert KNOWN == []  # it ran in the grading processes, not here


async def test_items_can_be_graded_where_no_pool_is_up() -> None:
    verdicts = await grade_once([GOOD, BAD], LIMIT_S, MEMORY_MB)
    assert [v.outcome for v in verdicts] == [CORRECT, WRONG]
    assert grading_processes(os.getpid()) == []


async def test_a_set_up_that_fails_is_broken_not_wrong() -> None:
    with closing(GradingProcess(LIMIT_S, MEMORY_MB, grade_known, setup=(register, 7))) as process:
        assert await outcomes(process, [GOOD]) == [BROKEN]
        with pytest.raises(InfrastructureError, match="did not start"):
            await process.start()


class OneProcess:
    """The verifier role over a single grading process."""

    def __init__(self, process: GradingProcess) -> None:
        self.process = process

    async def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        return await self.process.grade_batch(items)


async def test_children_and_zygotes_killed_in_the_middle_of_a_batch_lose_nothing(
    process: GradingProcess,
) -> None:
    await process.start()
    items = [GradeItem(rf"\boxed{{{n}}}", str(n - n % 3 % 2), "integer") for n in range(20_000)]
    batch = asyncio.create_task(grade_with_retries(OneProcess(process), items))
    kills = 0
    while not batch.done():
        await asyncio.sleep(0.05)
        zygotes = grading_processes(os.getpid())
        graders = [pid for parent in zygotes for pid in grading_processes(parent)]
        for pid in (zygotes if kills % 4 == 3 else graders)[: kills < 12]:
            os.kill(pid, signal.SIGKILL)
            kills += 1
    verdicts, given = await batch
    assert kills > 5
    assert [v.extracted for v in verdicts] == [str(n) for n in range(20_000)]
    wanted = [WRONG if n % 3 == 1 else CORRECT for n in range(20_000)]
    assert [v.outcome for v in verdicts] == wanted
    # An item that was hit twice is broken once, and graded again.
    counts = process.counts()
    assert counts.graded == given.total() == 20_000 + counts.broken
    assert counts.deaths <= kills


async def test_the_worker_grades_and_answers_pings_while_it_does() -> None:
    own_kind = {"burning": f"{__name__}:grade_or_burn"}
    worker = VerifierWorker(LIMIT_S, MEMORY_MB, (register_kinds, own_kind))
    try:
        assert await worker.ping()
        batch = asyncio.create_task(worker.grade([replace(BOMB, kind="burning"), GOOD]))
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(worker.ping(), LIMIT_S / 2)
        assert not batch.done()
        verdicts, counts = await batch
        assert [v.outcome for v in verdicts] == [TIMEOUT, CORRECT]
        assert (counts.graded, counts.timeouts) == (2, 1)
    finally:
        await worker.close()


def test_children_are_forked_with_math_verify_already_there():
    """Else every child that needs it pays for the import and is taken for one that hangs."""
    program = (
        "import sys; from bard_ray.verify import grade; from bard_ray.verify.process import zygote;"
        " zygote.warm_up(grade.grade);"
        " sys.exit('math_verify' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
