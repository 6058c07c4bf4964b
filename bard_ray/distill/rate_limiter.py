"""How fast to ask an endpoint, and how long to wait before asking again."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
_LOOK_S = 0.5  # how often a waiter looks whether its wait has changed


class RateLimiter:
    """At most so many units a minute, spread evenly; first come, first served.

    After n units the next taker waits n * 60 / per_minute seconds. So a minute sees at most
    `per_minute` units and the one amount that came before. Source: ours.
    """

    def __init__(self, per_minute: float) -> None:
        """Start free.

        Args:
            per_minute: the limit; 0: none.
        """
        self._unit_s = 60 / per_minute if per_minute else 0.0
        self._free_at = 0.0
        self._turn = asyncio.Lock()

    async def take(self, amount: float) -> None:
        """Wait until the amounts taken so far are worked off, then take this one."""
        async with self._turn:
            # Looks again and again, because hold and give_back move the end.
            while (wait_s := self._free_at - time.monotonic()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(min(wait_s, _LOOK_S))
            self._free_at = time.monotonic() + amount * self._unit_s

    def give_back(self, amount: float) -> None:
        """Of what was taken, this was not used; negative: more was used."""
        self._free_at -= amount * self._unit_s

    def hold(self, seconds: float) -> None:
        """Nobody takes anything for so long."""
        self._free_at = max(self._free_at, time.monotonic() + seconds)


def backoff_s(attempt: int, draw: random.Random) -> float:
    """Seconds to wait after failed attempt number `attempt`, from 0.

    U(0, min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2^attempt)). Source: ours; "full jitter" of the
    literature on retries: spread over all of the interval, clients do not come back together.
    """
    return draw.uniform(0, min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempt, 30)))


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to be left alone; 0 where it says nothing that can be read.

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
