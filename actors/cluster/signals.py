"""Signals of a process that has started Ray."""

from __future__ import annotations

import signal
import threading


def take_back_sigterm() -> None:
    """Restore Python's SIGTERM handler after Ray has replaced it.

    Ray's native handler, installed by `ray.init`, prints native stacks on the terminal and sets an
    alarm that aborts the process after three seconds. Python still considers its own handler
    installed, so it is installed again. Only the main thread can do this; other threads do nothing.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler is None or threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, handler)
    signal.siginterrupt(signal.SIGTERM, False)  # as asyncio's event loop sets it
