"""Rate limits of an endpoint, and the time to wait before a retry."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
_POLL_S = 0.5  # how often a waiter checks whether its wait has changed


class RateLimiter:
    """At most `per_minute` units per minute, spread evenly; first come, first served.

    After n units the next caller waits n * 60 / per_minute seconds. So a minute sees at most
    `per_minute` units plus the one amount taken before it. Source: ours.
    """

    def __init__(self, per_minute: float) -> None:
        """Start with nothing taken.

        Args:
            per_minute: the limit; 0: none.
        """
        self._unit_s = 60 / per_minute if per_minute else 0.0
        self._free_at = 0.0
        self._turn = asyncio.Lock()

    async def acquire(self, amount: float) -> None:
        """Wait until the amounts taken so far have passed, then take this one."""
        async with self._turn:
            # Polls, because `pause` and `refund` move the end of the wait.
            while (wait_s := self._free_at - time.monotonic()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(min(wait_s, _POLL_S))
            self._free_at = time.monotonic() + amount * self._unit_s

    def refund(self, amount: float) -> None:
        """Give back what was taken and not used; negative: more was used than taken."""
        self._free_at -= amount * self._unit_s

    def pause(self, seconds: float) -> None:
        """Nothing can be taken for that long."""
        self._free_at = max(self._free_at, time.monotonic() + seconds)


def backoff_s(attempt: int, draw: random.Random) -> float:
    """Seconds to wait after failed attempt number `attempt`, counted from 0.

    U(0, min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2^attempt)). Source: exponential backoff with full
    jitter; the numbers are ours.
    """
    return draw.uniform(0, min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempt, 30)))


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait; 0 where its headers say nothing readable.

    `retry-after-ms` in milliseconds, or `retry-after` in seconds or as a date.
    """
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        after = headers.get("retry-after", "")
        if not after or after.replace(".", "", 1).isdigit():
            return float(after or 0)
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except ValueError:
        return 0.0
