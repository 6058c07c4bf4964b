"""Grading with a hard limit: warm child processes that are killed if an answer takes too long.

A sympy bomb cannot be stopped inside its process: a power of huge integers holds the GIL, so
neither threads nor signals help. Therefore answers are graded in child processes
(`bard_ray.verify.process.children`), and one thread on this side dispatches the work and enforces
the limits (`bard_ray.verify.process.lanes`).
"""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bard_ray.errors import InfrastructureError
from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.grade import grade as grade_by_kind
from bard_ray.verify.process.children import Nursery, Program
from bard_ray.verify.process.lanes import Batch, Counts, Job, Lanes

# A module-level function, and its argument as plain JSON.
Setup = tuple[Callable[[Any], object], object]

_CLOSED = "the grading process is closed"


class GradingProcess:
    """Grades batches in child processes within hard limits of wall time and memory.

    Items are graded one at a time, except that other items overtake one that hangs. It is
    thread-safe and not bound to an event loop. Close it after use.
    """

    def __init__(
        self,
        limit_s: float,
        memory_mb: int,
        grade: Callable[[GradeItem], Verdict] = grade_by_kind,
        setup: Setup | None = None,
    ) -> None:
        """Store the settings; the first batch or `start` starts the processes.

        Args:
            limit_s: wall seconds per answer, from the time a child starts on it.
            memory_mb: address space of a child, MiB.
            grade: module-level function that grades one item; the child imports it.
            setup: called once before the first child is forked, for example to register
                user-defined graders.
        """
        self._limit_s = limit_s
        prepare, argument = (_name(setup[0]), setup[1]) if setup else ("", None)
        self._nursery = Nursery(memory_mb, Program(_name(grade), prepare, argument))
        self._inbox: queue.SimpleQueue[Callable[[Lanes], None]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._closed = threading.Event()
        self._counts = Counts()
        self._thread = threading.Thread(target=self._run, name="grading", daemon=True)
        self._starting = threading.Lock()

    async def start(self) -> None:
        """Start a warm child, unless there is one.

        Raises:
            InfrastructureError: no child could be started, or this process is closed.
        """
        warm: Future[None] = Future()

        def work(lanes: Lanes) -> None:
            try:
                lanes.warm()
            except InfrastructureError as error:
                warm.set_exception(error)
            else:
                warm.set_result(None)

        self._put(work)
        await asyncio.wrap_future(warm)

    async def grade_batch(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """Grade items; verdicts come in their order.

        An item over the time limit is TIMEOUT; the others continue meanwhile. An item whose child
        dies is retried once in a new child, then BROKEN. If no child can be started, all remaining
        items are BROKEN. A cancelled batch stops at its next answer.

        Args:
            items: N answers; only the last `MAX_TEXT_CHARS` characters of a text are read.

        Returns:
            N verdicts.
        """
        if not items:
            return []
        batch = Batch.of(len(items))
        jobs = [Job(item, batch, index) for index, item in enumerate(items)]
        try:
            self._put(lambda lanes: lanes.add(jobs))
        except InfrastructureError:
            return [Verdict(Outcome.BROKEN, rule="no_process")] * len(items)
        try:
            return await asyncio.shield(asyncio.wrap_future(batch.future))
        except asyncio.CancelledError:
            batch.abandoned = True
            self._notify()
            raise

    def counts(self) -> Counts:
        """Counters since this object was created."""
        return replace(self._counts)

    def close(self) -> None:
        """Stop all processes; a running batch ends with BROKEN verdicts.

        A second call does nothing.
        """
        self._closed.set()
        self._notify()
        with self._starting:
            if self._thread.ident is not None:
                self._thread.join()
            self._wake.close()
            self._woken.close()

    def _put(self, work: Callable[[Lanes], None]) -> None:
        """Queue work for the thread.

        Raises:
            InfrastructureError: this process is closed.
        """
        with self._starting:
            if self._closed.is_set():
                raise InfrastructureError(_CLOSED)
            if self._thread.ident is None:
                self._thread.start()
            self._inbox.put(work)
        self._notify()

    def _notify(self) -> None:
        with suppress(OSError):  # the socket is full of unread wake-ups, or closed
            self._wake.send(b"!")

    # --- the thread: only it uses the nursery, so it starts and ends every process

    def _run(self) -> None:
        """Work until closed, then settle every job and stop every process."""
        lanes = Lanes(self._nursery, self._limit_s, self._woken.fileno())
        self._counts = lanes.counts
        while not self._closed.is_set():
            self._drain(lanes)
            lanes.turn()
        self._drain(lanes)
        lanes.close()
        self._nursery.close()

    def _drain(self, lanes: Lanes) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(1 << 12)
        with suppress(queue.Empty):
            while True:
                self._inbox.get_nowait()(lanes)


async def grade_once(
    items: Sequence[GradeItem], limit_s: float, memory_mb: int, setup: Setup | None = None
) -> list[Verdict]:
    """Grade items without a pool, in a separate process that is closed afterward.

    Args:
        items: N answers, for example the gold answers of a data set before a run.
        limit_s: wall seconds for one answer.
        memory_mb: address space of a child, MiB.
        setup: called once before the first child is forked.

    Returns:
        N verdicts, in order.
    """
    process = GradingProcess(limit_s, memory_mb, setup=setup)
    try:
        return await process.grade_batch(items)
    finally:
        await asyncio.to_thread(process.close)


def _name(function: Callable[..., object]) -> str:
    return f"{function.__module__}:{function.__qualname__}"
