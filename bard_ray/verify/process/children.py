"""Parent side of the grading processes.

    Nursery --control socket--> zygote --fork--> child <--data socket--> Child

A child ends through `Nursery.kill`, at its memory limit, or with its zygote; the zygote ends with
this process (kernel signal on parent death). For Linux the parent is the *thread* that started a
process, so the same thread must use the nursery from its first fork to `close`.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from bard_ray.errors import InfrastructureError
from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.extract import MAX_TEXT_CHARS
from bard_ray.verify.process.zygote import FORK, KILL, PID_FORMAT, READY

_START_LIMIT_S = 60.0  # cold start of the zygote on a busy machine
_STOP_LIMIT_S = 2.0
_RECV_BYTES = 1 << 16
_SLOW_NICENESS = 5  # of a child that works on a demoted item
# A child processes untrusted text, so it gets no secrets. It gets one thread, because a fork copies
# no others.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "VIRTUAL_ENV")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Child:
    """One grading process: batches of items in, a line for each verdict out."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._socket = connection
        self._buffer = bytearray()

    def fileno(self) -> int:
        """File descriptor that becomes readable with a verdict, or when the child has ended."""
        return self._socket.fileno()

    def send(self, items: Sequence[GradeItem], timeout_s: float) -> None:
        """Send a batch; the child must have answered all of the previous one.

        Raises:
            OSError: the child has ended, or does not read.
        """
        batch = [[item.text[-MAX_TEXT_CHARS:], item.gold, item.kind] for item in items]
        self._socket.settimeout(timeout_s)
        self._socket.sendall(json.dumps(batch).encode() + b"\n")

    def read(self) -> list[Verdict]:
        """Verdicts that have arrived, in the order of the items, without waiting.

        Raises:
            EOFError: the child has ended, or sent an invalid verdict.
        """
        self._socket.settimeout(0)
        try:
            data = self._socket.recv(_RECV_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        self._buffer += data
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        return [_decode(line) for line in lines]

    def yield_cpu(self) -> None:
        """Lower the child's priority."""
        with suppress(OSError):  # it may have ended
            os.setpriority(os.PRIO_PROCESS, self.pid, _SLOW_NICENESS)

    def close(self) -> None:
        """Close the connection; `Nursery.kill` ends the process."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Program:
    """Functions that children run, by name, because the zygote imports them.

    Attributes:
        grade: `module:function` that grades one item.
        setup: `module:function` that is called once with `argument` before the first child is
            forked; empty: none. If it fails, no child can be started.
        argument: plain JSON.
    """

    grade: str
    setup: str = ""
    argument: object = None

    def encode(self) -> str:
        """Encode for the zygote."""
        return json.dumps([self.grade, self.setup, self.argument])


class Nursery:
    """Forks and kills children through one warm zygote, which it starts when needed."""

    def __init__(self, memory_mb: int, program: Program) -> None:
        """Store the settings; nothing starts yet.

        Args:
            memory_mb: address space of one child, MiB.
            program: what the children run.
        """
        self._memory_mb, self._program = memory_mb, program
        self._zygote: _Zygote | None = None

    def fork(self) -> Child:
        """Fork a new child; takes milliseconds if the zygote is warm, else seconds.

        Raises:
            InfrastructureError: two consecutive zygotes failed to fork a child.
        """
        try:
            return self._warm_zygote().fork()
        except OSError:  # the zygote itself died: one retry with a new one, then an error
            self._drop_zygote()
        try:
            return self._warm_zygote().fork()
        except OSError as error:
            self._drop_zygote()
            raise InfrastructureError(
                f"the grading process cannot fork a child: {error}"
            ) from error

    def kill(self, child: Child) -> None:
        """Kill a child unconditionally."""
        child.close()
        if self._zygote is not None:
            with suppress(OSError):  # a zygote that has ended killed its children
                self._zygote.kill(child.pid)

    def close(self) -> None:
        """Stop the zygote and all children."""
        self._drop_zygote()

    def _warm_zygote(self) -> _Zygote:
        if self._zygote is None:
            self._zygote = _Zygote(self._memory_mb, self._program)
        return self._zygote

    def _drop_zygote(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None


class _Zygote:
    """The running zygote program and its control socket."""

    def __init__(self, memory_mb: int, program: Program) -> None:
        """Start the zygote and wait until it is warm.

        Raises:
            InfrastructureError: it ended, or was not ready in time; its own message is on standard
                error.
        """
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [
            sys.executable,
            "-P",
            "-m",
            "bard_ray.verify.process.zygote",
            str(os.getpid()),
            str(memory_mb),
            program.encode(),
        ]
        with theirs:
            self.process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=_environment()
            )
        try:
            _await_ready(self._control)
        except OSError as error:
            self.close()
            raise InfrastructureError(f"the grading process did not start: {error}") from error

    def fork(self) -> Child:
        """Fork another child.

        Raises:
            OSError: the zygote has ended, or no child started in time.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [FORK], [theirs.fileno()])
            answer = self._control.recv(struct.calcsize(PID_FORMAT))
            if not answer:
                reason = "the zygote ended"
                raise ConnectionError(reason)
            _await_ready(ours)
        except OSError:
            ours.close()
            raise
        return Child(struct.unpack(PID_FORMAT, answer)[0], ours)

    def kill(self, pid: int) -> None:
        """Kill one child.

        Raises:
            OSError: the zygote has ended.
        """
        self._control.send(KILL + struct.pack(PID_FORMAT, pid))

    def close(self) -> None:
        """Stop the zygote, which kills its children first."""
        with suppress(OSError):  # the other end may already be closed
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
    try:
        outcome, extracted, rule, seconds = json.loads(line)
        return Verdict(Outcome(outcome), str(extracted), str(rule), float(seconds))
    except ValueError as error:
        raise EOFError from error
