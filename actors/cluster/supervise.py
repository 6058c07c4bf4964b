"""Failure policy and time limits of remote calls.

No other module decides on restarts or sets time limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from enum import Enum
from typing import Any, TypeVar

from actors.cluster.losses import is_loss
from bard_ray.errors import (
    CallTimeoutError,
    InfrastructureError,
    UserError,
    WeightSyncError,
    first_error,
)

T = TypeVar("T")


class Decision(Enum):
    """RESTART the actor and issue the work again, or RAISE to the driver."""

    RESTART = "restart"
    RAISE = "raise"


def decide(error: BaseException) -> Decision:
    """Failure policy.

    An actor that died, is unreachable, timed out or lost its engine is replaced: the state of
    rollout, verifier and reference workers can be restored in their replacement. A configuration
    error, a mismatched weight transfer and any unknown error is raised, because a retry would only
    hide it.
    """
    import ray.exceptions as rex

    if isinstance(error, UserError | WeightSyncError):
        return Decision.RAISE
    lost = is_loss(error) or isinstance(error, rex.ObjectLostError | InfrastructureError)
    return Decision.RESTART if lost else Decision.RAISE


def root_cause(error: BaseException) -> BaseException:
    """The first real exception inside exception groups and Ray's task errors."""
    import ray.exceptions as rex

    error = first_error(error)
    while isinstance(error, rex.RayTaskError) and error.cause not in (None, error):
        error = first_error(error.cause)
    return error


async def call(awaitable: Awaitable[T], limit_s: float, what: str) -> T:
    """Await a remote result for at most `limit_s` seconds.

    Raises:
        CallTimeoutError: the limit passed. The remote call keeps running, so kill the actor before
            retrying.
    """
    try:
        return await asyncio.wait_for(_plain(awaitable), limit_s)
    except TimeoutError as error:
        raise CallTimeoutError(what, limit_s) from error


async def _plain(awaitable: Awaitable[T]) -> T:
    """Await an object reference; its exception is raised without Ray's wrapper."""
    import ray.exceptions as rex

    try:
        return await awaitable
    except rex.RayTaskError as error:
        cause: Any = root_cause(error)
        raise cause from error
