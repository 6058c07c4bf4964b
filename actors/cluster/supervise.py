"""What to do about an exception from a remote call.

The one place that decides, and the one that puts time limits.
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

    An actor that died, cannot be reached, answers too late or lost its engine is replaced: rollout,
    verifier and reference workers hold no state that cannot be given to their successor. A wrong
    configuration, a weight transfer whose two ends disagree, and anything unknown is raised:
    repeating it would only hide it.
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
            asking again.
    """
    try:
        return await asyncio.wait_for(_plain(awaitable), limit_s)
    except TimeoutError as error:
        raise CallTimeoutError(what, limit_s) from error


async def _plain(awaitable: Awaitable[T]) -> T:
    """An object reference as a coroutine, with Ray's wrapper taken off what it raises."""
    import ray.exceptions as rex

    try:
        return await awaitable
    except rex.RayTaskError as error:
        cause: Any = root_cause(error)
        raise cause from error
