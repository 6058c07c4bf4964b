"""Keeps `report.html` up to date during a run.

Pages are rendered in a separate process, so that drawing figures can neither stall the event loop
nor crash the run. There is at most one such process at a time, and it uses only idle CPU time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bard_ray.files import write_text
from bard_ray.progress import Progress
from bard_ray.report.html import FILE
from bard_ray.report.status import RunStatus

EVERY_S = 60.0
RENDER_LIMIT_S = 600.0  # rendering is slow if no CPU is idle
LAST_LIMIT_S = 10.0  # after a run stopped, when its command is about to end
LOG = "report.log"


@dataclass(frozen=True, slots=True)
class Subject:
    """The run that a report describes.

    Attributes:
        run_dir: directory of the run.
        title: title of the page.
        stages: titles of the run's stages by name, in order.
        config: settings that a reader of the results needs, see `bard_ray.report.results`.
    """

    run_dir: Path
    title: str
    stages: Mapping[str, str]
    config: Mapping[str, Any]


class LiveReport:
    """Async context manager that keeps the report of a run up to date.

    One task renders at the start, after `refresh`, and every `every_s` seconds. It skips pages that
    would show nothing new. Errors are written to `logs/report.log`, and the run continues. If the
    block ends with an exception, a last page reports that the run stopped.
    """

    def __init__(
        self,
        subject: Subject,
        wall_s: Callable[[], Mapping[str, float]],
        describe: Callable[[BaseException], str] = str,
        every_s: float = EVERY_S,
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            subject: subject of the report.
            wall_s: returns the wall seconds of the finished stages.
            describe: describes the error that stopped a run.
            every_s: seconds between two pages while a stage runs.
        """
        self._subject, self._wall_s = subject, wall_s
        self._describe, self._every_s = describe, every_s
        self._running: tuple[str, Progress] | None = None
        self._shown: object = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def stage(self, name: str, progress: Progress) -> Iterator[None]:
        """Context of a running stage, whose progress the page shows.

        The page of a run that stopped in a stage still names that stage.
        """
        self._running = (name, progress)
        yield
        self._running = None

    def refresh(self) -> None:
        """Render soon; returns at once."""
        self._wake.set()

    async def __aenter__(self) -> Self:
        """Start rendering."""
        self._task = asyncio.create_task(self._keep_fresh())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop rendering; if the run stopped early, render a last page that reports it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if error is not None:
            await self._write(LAST_LIMIT_S, error)

    async def _keep_fresh(self) -> None:
        """Render, then wait for `refresh` or for the interval to pass, until cancelled."""
        while True:
            await self._write(RENDER_LIMIT_S)
            # Not wait_for: in Python 3.11 it loses a cancellation that comes right after `refresh`.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._wake.wait()
            self._wake.clear()

    async def _write(self, limit_s: float, error: BaseException | None = None) -> None:
        """Render and write the current page, unless it would show nothing new.

        A failure goes to the log.
        """
        try:
            content = self._content()
            if content == self._shown and error is None:
                return
            self._shown = content
            page = await self._render(self._status(error), limit_s)
            path = self._subject.run_dir / FILE
            writing = asyncio.ensure_future(asyncio.to_thread(write_text, path, page))
            try:
                await asyncio.shield(writing)
            finally:
                await writing  # also on cancellation, so that pages are written in order
        except Exception as problem:  # noqa: BLE001 a report never stops a run
            self._log(f"{type(problem).__name__}: {problem}")

    def _content(self) -> object:
        """A value that differs between pages with different contents."""
        run_dir = self._subject.run_dir
        files = [run_dir / "metrics.jsonl", *sorted((run_dir / "evals").glob("*.json"))]
        sizes = [(path.name, path.stat().st_size) for path in files if path.exists()]
        running = self._running and (self._running[0], self._running[1].state().text)
        return sizes, running, sorted(self._wall_s())

    def _status(self, error: BaseException | None) -> RunStatus:
        status = RunStatus(
            as_of=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"),
            stages=self._subject.stages,
            wall_s=self._wall_s(),
            problem="" if error is None else self._describe(error) or "interrupted",
        )
        if self._running is None:
            return status
        name, progress = self._running
        return replace(status, running=name, **asdict(progress.state()))

    async def _render(self, status: RunStatus, limit_s: float) -> str:
        """Render the page in a separate process, which is killed on cancellation.

        Raises:
            TimeoutError: it took longer than `limit_s`.
            RuntimeError: the process failed.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bard_ray.report.render", str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,  # Ctrl-C must reach only the run
        )
        request = {
            "run_dir": str(self._subject.run_dir),
            "title": self._subject.title,
            "config": dict(self._subject.config),
            "status": status.to_json(),
        }
        try:
            async with asyncio.timeout(limit_s):
                page, errors = await process.communicate(json.dumps(request).encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise RuntimeError(errors.decode(errors="replace").strip())
        return page.decode()

    def _log(self, problem: str) -> None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with contextlib.suppress(OSError):
            logs = self._subject.run_dir / "logs"
            logs.mkdir(exist_ok=True)
            with (logs / LOG).open("a") as log:
                log.write(f"{now} the report was not refreshed. {problem}\n")
