"""The process from which grading children are forked.

It imports math-verify once and never handles model text.

Forking a warm child takes milliseconds, a cold start a second, so a child that hangs on one answer
is cheap to replace. `bard_ray.verify.process.grading` starts this program and communicates with it:

    python -m bard_ray.verify.process.zygote <pid of the parent> <memory limit, MiB> <program>

The program is a line of JSON, [grade, setup, argument]: `grade` is the `module:function` that
grades, `setup` another one (or empty) that is called once with `argument` before the first fork.

File descriptor 0 is the control socket, one message a packet. `FORK` carries the descriptor of a
fresh data socket and asks for a child that serves it; the answer is the child's process id. `KILL`
and a process id asks to end that child. End of file asks to kill all children and to exit. On the
data socket a line of JSON is a batch of [text, gold, kind]; each item is answered by a line
[outcome, extracted, rule, seconds]. JSON, because the parent must not unpickle what such a child
sends.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bard_ray.records import GradeItem, Outcome, Verdict

READY = b"R"
FORK = b"F"
KILL = b"K"
PID_FORMAT = "!i"
_CONTROL_FD = 0
_PR_SET_PDEATHSIG = 1
# Fills the caches of regular expressions, grammar and sympy before the first fork: the first surd
# of a child without them took 180 ms, the first of one with them 13 ms. The last ones are left to
# math-verify by our own reader, which brings it in: a child that has to import it by itself is slow
# enough to be sent to a slow lane, and so is the next one.
_WARM_UP = (
    (r"\frac{x}{2}+\sqrt{3}", r"\sqrt{3}+0.5x"),
    (r"\{1, 2\sqrt{2}, 4\}", r"\{4,2\sqrt{2},1\}"),
    ("(3, x+1)", "(3,1+x)"),
    (r"(-\infty,2]\cup[3,\infty)", r"[3,\infty)\cup(-\infty,2]"),
    (r"\left[1,4\right)", "[1,4)"),
    ("(2x+1)(x+3)", "2x^2+7x+3"),
    ("2x^2+7x+4", "2x^2+7x+3"),
    (r"\frac{6\pi}{4}", r"1.5\pi"),
    (r"\sqrt{12}", r"2\sqrt{3}"),
    (r"\frac{6}{\sqrt{3}}", r"2\sqrt{3}"),
    (r"3\text{ cm}", r"4\text{ cm}"),
    ("2^{10}", "1024"),
    ("12 3", "12"),
    ("7+", "7"),
)

Grade = Callable[[GradeItem], Verdict]


def main(arguments: list[str]) -> None:
    """Serve fork requests until the control socket closes."""
    parent, memory_mb = int(arguments[0]), int(arguments[1])
    die_with(parent)
    target, setup, argument = json.loads(arguments[2])
    if setup:
        _resolve(setup)(argument)
    grade: Grade = _resolve(target)
    warm_up(grade)
    gc.collect()
    gc.freeze()  # children share these pages as long as their garbage collector leaves them alone
    with socket.socket(fileno=_CONTROL_FD) as control:
        control.sendall(READY)
        serve_forks(control, grade, memory_mb)


def warm_up(grade: Grade) -> None:
    """Grade a few answers of many forms, so that their caches are warm in every child."""
    for answer, gold in _WARM_UP:
        grade(GradeItem(rf"\boxed{{{answer}}}", gold, "math"))


def _resolve(target: str) -> Callable[..., Any]:
    """The function that `module:function` names; these names come from our own configuration."""
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def serve_forks(control: socket.socket, grade: Grade, memory_mb: int) -> None:
    """Consume requests to fork and to kill.

    Waits for the parent only, ends with its socket.

    In a forked child this function serves the data socket and then returns as well, up to the end
    of the program.
    """
    children: set[int] = set()
    zygote = os.getpid()
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1 + struct.calcsize(PID_FORMAT), 1)
        _reap(children)
        if not message:
            _kill(children)
            return
        if message[:1] == KILL:
            _kill(children & set(struct.unpack(PID_FORMAT, message[1:])))
            continue
        with socket.socket(fileno=fds[0]) as wire:
            child = os.fork()
            if child == 0:
                control.close()
                die_with(zygote)
                limit_resources(memory_mb)
                # A broken pipe or reset: the parent wants no more answers.
                with suppress(BrokenPipeError, ConnectionResetError):
                    serve_batches(wire, grade)
                return
        children.add(child)
        control.send(struct.pack(PID_FORMAT, child))


def _reap(children: set[int]) -> None:
    """Forget children that have ended, so that their ids never mean another process."""
    for child in list(children):
        if os.waitpid(child, os.WNOHANG)[0]:
            children.remove(child)


def _kill(children: set[int]) -> None:
    # Not reaped yet, so the ids are still these children's.
    for child in children:
        os.kill(child, signal.SIGKILL)


def serve_batches(wire: socket.socket, grade: Grade) -> None:
    """Grade batch after batch, one answer line an item.

    Waits for the parent only, ends when it closes the socket.

    A batch is read whole before its first item is graded, so the two ends never both wait to write.
    """
    with wire.makefile("rb") as batches:
        wire.sendall(READY)
        for line in batches:
            for text, gold, kind in json.loads(line):
                wire.sendall(_answer(GradeItem(text, gold, kind), grade))


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        sys.exit(1)


def limit_resources(memory_mb: int) -> None:
    """Bound the address space of this process, in MiB, and leave no core file of it."""
    size = memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(item: GradeItem, grade: Grade) -> bytes:
    start = time.perf_counter()
    try:
        verdict = grade(item)
    except MemoryError:
        verdict = Verdict(Outcome.TIMEOUT, rule="memory_limit")
    seconds = time.perf_counter() - start
    return json.dumps([verdict.outcome, verdict.extracted, verdict.rule, seconds]).encode() + b"\n"


if __name__ == "__main__":
    main(sys.argv[1:])
