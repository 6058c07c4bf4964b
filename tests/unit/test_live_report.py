"""The report of an unfinished run."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import time
from pathlib import Path

import pytest

from bard_ray.errors import DataError
from bard_ray.metrics import MetricsWriter
from bard_ray.progress import Console
from bard_ray.report import live as live_module
from bard_ray.report.live import LiveReport, Subject
from tests.unit.pages import Page, variant

STAGES = {
    "sft": "budget-aware SFT",
    "rl": "asynchronous GRPO",
    "evaluate": "budget sweep",
}
pytestmark = pytest.mark.timeout(600)
PATIENCE_S = 240.0  # pages get idle CPU time only, and a machine that runs tests has little


class Run:
    """A run as its driver sees it."""

    def __init__(self, path: Path) -> None:
        self.path, self.wall_s = path, {"sft": 85.0}
        self.metrics = MetricsWriter(path)
        (path / "config.yaml").write_text("run: {name: tiny}\n")
        (path / "evals").mkdir()

    def step(self, number: int) -> None:
        values = {"rl/reward": 0.5, "rl/rel_err": 0.1, "rl/lag_max": 1, "rl/lag_mean": 1}
        self.metrics.write("rl", number, values)

    def measured(self, name: str) -> None:
        (self.path / "evals" / f"{name}.json").write_text(json.dumps(variant(0.5)))

    def live(self, every_s: float = 600.0) -> LiveReport:
        subject = Subject(self.path, "BARD <tiny>", STAGES, {"held_out": [13]})
        return LiveReport(subject, lambda: self.wall_s, every_s=every_s)

    @property
    def written(self) -> int:
        """Changes whenever the page is replaced."""
        file = self.path / "report.html"
        return file.stat().st_mtime_ns if file.exists() else 0

    def page(self) -> Page:
        return Page((self.path / "report.html").read_text())

    async def next_page(self, after: int = 0, limit_s: float = PATIENCE_S) -> Page:
        """Wait until the page is another one than the one that was written as `after`."""
        give_up = time.monotonic() + limit_s
        while self.written in (0, after):
            assert time.monotonic() < give_up, f"no page within {limit_s} s"
            await asyncio.sleep(0.02)
        return self.page()


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "LAST_LIMIT_S", PATIENCE_S)
    made = Run(tmp_path)
    yield made
    made.metrics.close()


def stage(name: str, title: str = "", unit: str = "step"):
    return Console(io.StringIO()).stage(2, 3, name, title, unit)


async def test_the_page_shows_what_there_is_so_far_and_reloads(run):
    run.step(1)
    run.measured("sft")
    with stage("rl") as progress:
        progress.update(20, 80, "reward 0.50")
        async with run.live() as live:
            with live.stage("rl", progress):
                page = await run.next_page()
    assert ("meta", "http-equiv", "refresh") in page.attributes
    assert page.headings == ["Progress", "Results", "By budget", "Training", "Configuration"]
    assert page.figures == ["length", "accuracy", "reward", "adherence", "lag"]
    assert "rl: step 20/80 reward 0.50" in page.text
    assert "width:25.0%" in page.html
    assert re.search(r"sft budget-aware SFT done 85 s rl asynchronous GRPO running \d s", page.text)
    assert "evaluate budget sweep - -" in page.text
    assert "given student" not in page.text
    assert "BARD <tiny> running" in page.text


async def test_the_end_of_a_stage_is_shown_at_once(run):
    async with run.live() as live:
        await run.next_page()
        before = run.written
        run.wall_s = run.wall_s | {"rl": 150.0}
        run.measured("rl")
        live.refresh()
        page = await run.next_page(before)
    assert "rl asynchronous GRPO done 2 min 30 s" in page.text
    assert page.figures == ["length", "accuracy"]


async def test_a_page_that_would_show_nothing_new_is_not_made(run):
    async with run.live(every_s=0.01):
        await run.next_page()
        first = run.written
        await asyncio.sleep(1.0)
        assert run.written == first
        run.step(1)
        page = await run.next_page(first)
    assert "reward" in page.figures


async def test_pages_are_replaced_whole(run):
    """A reader finds a whole page at any moment."""
    async with run.live(every_s=0.01):
        await run.next_page()
        for number in range(1, 3):
            before = run.written
            run.step(number)
            while run.written == before:
                assert run.page().html.rstrip().endswith("</html>")
                await asyncio.sleep(0.005)
    assert [path.name for path in run.path.glob(".report*")] == []


async def test_a_run_that_stops_says_so_and_no_longer_reloads(run):
    async def stops() -> None:
        with stage("rl") as progress:
            progress.update(20, 80)
            async with run.live() as live:
                with live.stage("rl", progress):
                    await run.next_page()
                    raise DataError("rows.jsonl", "line 3 is no row", "Correct it.")

    with pytest.raises(DataError):
        await stops()
    page = run.page()
    assert "refresh" not in page.values("http-equiv")
    assert "line 3 is no row" in page.text
    assert "rl asynchronous GRPO stopped" in page.text
    assert "BARD <tiny> stopped" in page.text


async def test_an_interrupted_run_leaves_no_process_and_stays_interrupted(run):
    entered = asyncio.Event()

    async def work() -> None:
        async with run.live(every_s=0.01):
            entered.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    await entered.wait()
    await asyncio.sleep(0.3)  # the first page is being rendered
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert renderers() == []
    assert "Stopped: interrupted" in run.page().text


async def test_a_run_may_end_right_after_its_last_stage(run):
    async with asyncio.timeout(PATIENCE_S), run.live() as live:
        await run.next_page()
        await asyncio.sleep(0.1)  # so that the report waits for something new
        run.wall_s = run.wall_s | {"evaluate": 20.0}
        live.refresh()
    assert renderers() == []


async def test_a_run_that_ends_leaves_no_process(run):
    async with run.live():
        await asyncio.sleep(0.3)  # the first page is being rendered
    assert renderers() == []


@pytest.mark.parametrize("damage", ["metrics.jsonl", "evals/rl.json"])
async def test_a_page_that_cannot_be_made_is_logged_and_the_run_continues(run, damage):
    (run.path / damage).write_text("{broken\n")
    log = run.path / "logs" / "report.log"
    async with run.live():
        give_up = time.monotonic() + PATIENCE_S
        while not (log.exists() and log.read_text()):
            assert time.monotonic() < give_up
            await asyncio.sleep(0.02)
    assert "the report was not refreshed" in log.read_text()
    assert "JSONDecodeError" in log.read_text()
    assert not (run.path / "report.html").exists()


async def test_a_machine_without_room_for_a_process_does_not_stop_the_run(run, monkeypatch):
    async def no_process(*args: object, **kwargs: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("asyncio.create_subprocess_exec", no_process)
    async with run.live():
        await asyncio.sleep(0.05)
    assert "Resource temporarily unavailable" in (run.path / "logs" / "report.log").read_text()


async def test_a_page_that_takes_too_long_is_canceled(run, monkeypatch):
    monkeypatch.setattr(live_module, "RENDER_LIMIT_S", 0.01)
    async with run.live():
        log = run.path / "logs" / "report.log"
        give_up = time.monotonic() + PATIENCE_S
        while not log.exists():
            assert time.monotonic() < give_up
            await asyncio.sleep(0.02)
    assert "TimeoutError" in log.read_text()
    assert renderers() == []


def renderers() -> list[int]:
    """Processes of ours that are rendering."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and b"bard_ray.report.render" in (entry / "cmdline").read_bytes()
            ):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                found += [int(entry.name)] if parent == os.getpid() else []
        except OSError:
            continue
    return found
