"""Grading with a hard limit: a warm child process that is killed when one answer takes too long.

Nothing inside a process stops a sympy bomb: a power of huge integers holds the GIL, so neither
threads nor signals help. So answers are graded in a child (see `bard_ray.verify.zygote`), and this
side watches the clock.

    GradingProcess --control socket--> zygote --fork--> child <--data socket--> GradingProcess

Who dies of what: the child of the limit or of its own memory; the zygote with this process, the
child with the zygote (kernel signal on parent death). Linux counts the *thread* that started a
process as its parent, so one thread, owned by the `GradingProcess`, starts the zygote and does all
waiting.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum, auto

from bard_ray.errors import InfrastructureError
from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.extract import MAX_TEXT_CHARS
from bard_ray.verify.grade import grade as grade_by_kind
from bard_ray.verify.zygote import FORK, READY

CHUNK_ITEMS = 256  # items sent at once; the child reads all of them before it starts
MAX_DEATHS = 2  # an item whose child died this often is broken
_START_LIMIT_S = 60.0  # cold start of the zygote on a busy machine
_STOP_LIMIT_S = 2.0
# The child works on text nobody trusts: it gets no secrets,
# and one thread, since a fork copies no others.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "VIRTUAL_ENV")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class GradingProcess:
    """Grades batches in a child process within hard limits of wall time and memory.

    Batches of one process run one after the other. Thread-safe; bound to no event loop. Close it
    after use.
    """

    def __init__(
        self, limit_s: float, memory_mb: int, grade: Callable[[GradeItem], Verdict] = grade_by_kind
    ) -> None:
        """Start nothing yet: the first batch or `start` does.

        Args:
            limit_s: wall seconds for one answer, counted from when the child starts on it.
            memory_mb: address space of the child, MiB.
            grade: module-level function that grades one item; it is imported again in the child.
        """
        self._limit_s = limit_s
        self._target = f"{grade.__module__}:{grade.__qualname__}"
        self._memory_mb = memory_mb
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grading")
        # Guards _zygote and _closed against `close` from another thread.
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._wire: _Wire | None = None
        self._closed = False

    async def start(self) -> None:
        """Have a warm child ready; returns at once where there is one.

        Raises:
            InfrastructureError: no child could be started, or this process is closed.
        """
        if self._closed:
            reason = "the grading process is closed"
            raise InfrastructureError(reason)
        if self._wire is None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._warm_child)

    async def grade_batch(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """Grade items in order.

        An item over the time limit is TIMEOUT and costs the others nothing but the limit. An item
        whose child dies is tried once more in a new one, then BROKEN. Where no child can be
        started, all that is left is BROKEN. A cancelled batch stops at its next answer.

        Args:
            items: N answers; only the last `MAX_TEXT_CHARS` characters of a text are read.

        Returns:
            N verdicts.
        """
        if self._closed:
            return [_broken("no_process")] * len(items)
        abandoned = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._thread, self._grade_blocking, tuple(items), abandoned
            )
        except asyncio.CancelledError:
            abandoned.set()
            raise

    def close(self) -> None:
        """End all processes; a batch that is running ends with BROKEN verdicts.

        Calling it again does nothing.
        """
        with self._lock:
            self._closed = True
            if self._zygote is not None:
                self._zygote.close()
                self._zygote = None
        self._thread.shutdown(wait=True)
        self._drop_child()

    def _grade_blocking(
        self, items: Sequence[GradeItem], abandoned: threading.Event
    ) -> list[Verdict]:
        verdicts: list[Verdict] = []
        deaths = 0  # of children, on the item that is next
        while len(verdicts) < len(items) and not abandoned.is_set():
            begun = len(verdicts)
            try:
                wire = self._warm_child()
            except InfrastructureError:
                return verdicts + [_broken("no_process")] * (len(items) - begun)
            ending = self._stream(wire, items[begun : begun + CHUNK_ITEMS], verdicts, abandoned)
            if ending is not _Ending.DONE:
                self._replace_child()
            if ending is _Ending.TIMEOUT:
                verdicts.append(Verdict(Outcome.TIMEOUT, rule="time_limit", seconds=self._limit_s))
            deaths = _count_deaths(ending, deaths, progress=len(verdicts) > begun)
            if deaths == MAX_DEATHS:
                verdicts.append(_broken("process_died"))
                deaths = 0
        return verdicts

    def _stream(
        self,
        wire: _Wire,
        items: Sequence[GradeItem],
        verdicts: list[Verdict],
        abandoned: threading.Event,
    ) -> _Ending:
        """Send items and append their verdicts as they come, up to the first that does not come."""
        try:
            wire.send(
                json.dumps([[i.text[-MAX_TEXT_CHARS:], i.gold, i.kind] for i in items]).encode()
            )
            for _ in items:
                verdicts.append(_decode(wire.read_line(self._limit_s)))
                if abandoned.is_set():
                    return _Ending.ABANDONED
        except TimeoutError:
            return _Ending.TIMEOUT
        except (OSError, EOFError, ValueError):  # ValueError: half a line, or no verdict
            return _Ending.DIED
        return _Ending.DONE

    def _warm_child(self) -> _Wire:
        if self._wire is None:
            try:
                self._wire = self._warm_zygote().fork()
            except OSError:  # the zygote itself died: one new one, then it is the caller's trouble
                self._drop_zygote()
                self._wire = self._fork_or_raise()
        return self._wire

    def _fork_or_raise(self) -> _Wire:
        try:
            return self._warm_zygote().fork()
        except OSError as error:
            self._drop_zygote()
            raise InfrastructureError(
                f"the grading process cannot fork a child: {error}"
            ) from error

    def _warm_zygote(self) -> _Zygote:
        with self._lock:
            if self._closed:
                reason = "the grading process is closed"
                raise InfrastructureError(reason)
            if self._zygote is None:
                self._zygote = _Zygote(self._memory_mb, self._target)
            return self._zygote

    def _drop_zygote(self) -> None:
        with self._lock:
            if self._zygote is not None:
                self._zygote.close()
                self._zygote = None

    def _replace_child(self) -> None:
        """At once, even after the last item: forking the new child is what kills the old one."""
        self._drop_child()
        with suppress(InfrastructureError):  # comes again when there is work to do
            self._warm_child()

    def _drop_child(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class _Ending(Enum):
    """Why the stream of verdicts of one child ended."""

    DONE = auto()
    TIMEOUT = auto()
    DIED = auto()
    ABANDONED = auto()


class _Wire:
    """Lines to and from one child."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()

    def send(self, line: bytes) -> None:
        self._socket.settimeout(None)  # a child always reads a whole batch, or is dead
        self._socket.sendall(line + b"\n")

    def read_line(self, limit_s: float) -> bytes:
        """Next line.

        Raises:
            TimeoutError: it did not come in time.
            EOFError: the child is gone.
        """
        deadline = time.monotonic() + limit_s
        while (end := self._buffer.find(b"\n")) < 0:
            # Never zero, so that what has arrived is read even if this thread was held up past
            # the deadline.
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            data = self._socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def close(self) -> None:
        self._socket.close()


class _Zygote:
    """The running zygote program and its control socket."""

    def __init__(self, memory_mb: int, target: str) -> None:
        """Start it and wait until it is warm.

        Raises:
            InfrastructureError: it ended, or was not ready in time; its own error is on standard
                error.
        """
        self._control, theirs = socket.socketpair()
        program = [
            sys.executable,
            "-P",
            "-m",
            "bard_ray.verify.zygote",
            str(os.getpid()),
            str(memory_mb),
            target,
        ]
        with theirs:
            self.process = subprocess.Popen(
                program, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=_environment()
            )
        try:
            _await_ready(self._control)
        except OSError as error:
            self.close()
            raise InfrastructureError(f"the grading process did not start: {error}") from error

    def fork(self) -> _Wire:
        """Replace the child, killing the last one.

        Raises:
            OSError: the zygote is gone, or no child came up in time.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [FORK], [theirs.fileno()])
            _await_ready(ours)
        except OSError:
            ours.close()
            raise
        return _Wire(ours)

    def close(self) -> None:
        """End it; it kills its child first."""
        with suppress(OSError):  # the other end may be gone already
            self._control.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._control.close()


def _await_ready(connection: socket.socket) -> None:
    connection.settimeout(_START_LIMIT_S)
    if connection.recv(1) != READY:
        reason = "it ended before it was ready"
        raise ConnectionError(reason)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    modules = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return kept | dict.fromkeys(_THREAD_VARIABLES, "1") | {"PYTHONPATH": modules}


def _decode(line: bytes) -> Verdict:
    outcome, extracted, rule, seconds = json.loads(line)
    return Verdict(Outcome(outcome), str(extracted), str(rule), float(seconds))


def _broken(rule: str) -> Verdict:
    return Verdict(Outcome.BROKEN, rule=rule)


def _count_deaths(ending: _Ending, deaths: int, *, progress: bool) -> int:
    """Deaths on the item that is next, after a stream ended.

    Any verdict in between starts the count anew.
    """
    before = 0 if progress else deaths
    return before + (ending is _Ending.DIED)
