"""The `Reference` role over one Ray actor, which is replaced when it is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.cluster.fleet import ATTEMPTS, Fleet, Kill, Spawn
from actors.cluster.supervise import call
from bard_ray.errors import InfrastructureError
from bard_ray.records import Floats, Ints

if TYPE_CHECKING:
    from ray.actor import ActorHandle


class RayReference:
    """The `Reference` role over a fleet of one worker."""

    def __init__(self, spawn: Spawn, kill: Kill, timeout_s: float) -> None:
        self._timeout_s, self._path = timeout_s, ""
        self._fleet = Fleet("reference", 1, spawn, kill, self._prepare)

    async def _prepare(self, handle: ActorHandle) -> None:
        await call(handle.load.remote(self._path), self._timeout_s, "loading the reference policy")

    async def load(self, path: str) -> None:
        """Load the frozen policy from a Hugging Face model directory."""
        self._path = path
        if not await self._fleet.on_worker(0, self._prepare):
            msg = "the reference worker was lost while loading its policy; see logs/reference-0.log"
            raise InfrastructureError(msg)

    async def stop(self) -> None:
        """Kill the worker."""
        await self._fleet.stop()

    async def logprobs(self, sequences: Sequence[Ints], temperature: float) -> list[Floats]:
        """Log-probs of every sequence, in order.

        Raises:
            InfrastructureError: the worker was lost `ATTEMPTS` times.
        """
        return await self._call("logprobs", list(sequences), temperature)

    async def states(self, sequences: Sequence[Ints]) -> list[Floats]:
        """Mean of the last hidden states of every sequence, in order.

        Raises:
            InfrastructureError: the worker was lost `ATTEMPTS` times.
        """
        return await self._call("states", list(sequences))

    async def _call(self, method: str, *arguments: object) -> list[Floats]:
        """Call a method of the worker; retry on a new worker where it is lost during the call."""
        result: list[Floats] = []

        async def work(handle: ActorHandle) -> None:
            remote = getattr(handle, method).remote(*arguments)
            result.extend(await call(remote, self._timeout_s, f"reference {method}"))

        if not await self._fleet.on_worker(0, work):
            msg = f"the reference worker was lost {ATTEMPTS} times; see logs/reference-0.log"
            raise InfrastructureError(msg)
        return result
