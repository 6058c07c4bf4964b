"""Weights on their way to the samplers while the learner continues with its next step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bard_ray.rl.flow import RLRoles
from bard_ray.roles import Published


@dataclass
class Publisher:
    """Publishes one version after the other, at most one of them on its way.

    The learner waits for its weights to be gathered, since its next step changes them, and for the
    transfer before this one; it does not wait for the transfer itself. `on_arrival` gives the
    slots of the step back, so that a group is admitted only under weights that have arrived: the
    lag bound of `bard_ray.rl.admission` does not depend on how long a transfer takes.
    """

    roles: RLRoles
    tasks: asyncio.TaskGroup  # a failed transfer ends it, and with it the loop
    _transfer_task: asyncio.Task[None] | None = None
    _times: dict[str, float] = field(default_factory=dict)

    async def send(self, version: int, on_arrival: Callable[[], None]) -> None:
        """Gather the learner's weights and start them on their way as `version`."""
        weights = await self.roles.learner.publish()
        await self.idle()
        self._transfer_task = self.tasks.create_task(self._transfer(weights, version, on_arrival))

    async def idle(self) -> None:
        """Wait until nothing is on its way."""
        if self._transfer_task is not None:
            await self._transfer_task
            self._transfer_task = None

    def take_metrics(self) -> dict[str, float]:
        """Times of the transfers that ended since the last call; empty if none did."""
        times, self._times = self._times, {}
        return times

    async def _transfer(
        self, weights: Published, version: int, on_arrival: Callable[[], None]
    ) -> None:
        started = time.monotonic()
        stall_s = await self.roles.sampler.publish(weights, version)
        self._times = {"time/stall_s": stall_s, "time/transfer_s": time.monotonic() - started}
        on_arrival()
