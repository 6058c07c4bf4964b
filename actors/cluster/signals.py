"""Signals of a process that has started Ray."""

from __future__ import annotations

import signal
import threading


def take_back_sigterm() -> None:
    """Put Python's handler of SIGTERM back in the place of Ray's.

    Ray's native handler, installed by `ray.init`, prints native stacks on the terminal and sets an
    alarm that aborts the process after three seconds. Python still believes that its own handler is
    there, so that one is installed once more. Only the main thread may do this; elsewhere nothing
    happens.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler is None or threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, handler)
    signal.siginterrupt(signal.SIGTERM, False)  # as asyncio's event loop sets it
