"""The driver's end of one rollout worker: requests out in batches, groups back on one stream.

One stream for as long as there is work, whoever asks: a streaming call for each group kept the
worker's interpreter lock busy for a tenth of the engine's time (tiny recipe, measured).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.cluster.supervise import Decision, call, decide
from actors.cluster.wire import Ticket, unpack_groups
from bard_ray.records import Group, GroupRequest, SamplingSpec

if TYPE_CHECKING:
    from actors.cluster.fleet import Fleet

GATHER_S = 0.005  # how long requests wait for others to travel with
MAX_LOSSES = 3  # workers lost with a request before it counts as failed

Arrivals = asyncio.Queue[Group | BaseException]


@dataclass
class PendingRequest:
    """A request under way: where its group goes, and what happened to it so far."""

    request: GroupRequest
    spec: SamplingSpec
    out: Arrivals
    sent: bool = False
    losses: int = 0


class GroupStream:
    """Requests of one worker's slot; what a lost worker had is asked of its successor.

    `_open` holds every request whose group has not come back. While it is not empty, `_pump` reads
    the worker's stream; it ends with the last group, so nothing is left running.
    """

    def __init__(self, fleet: Fleet, index: int, timeout_s: float) -> None:
        self._fleet, self._index, self._timeout_s = fleet, index, timeout_s
        self._open: dict[Ticket, PendingRequest] = {}
        self._calls = itertools.count()
        self._handle: Any = None  # the worker whose stream is being read
        self._stream: Any = None
        self._pump: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None

    def ask(
        self, requests: Sequence[GroupRequest], spec: SamplingSpec, out: Arrivals
    ) -> list[Ticket]:
        """Ask for groups; each goes to `out`, or the reason why none ever will."""
        number_of_call = next(self._calls)
        tickets = [(number_of_call, request.number) for request in requests]
        for ticket, request in zip(tickets, requests, strict=True):
            self._open[ticket] = PendingRequest(request, spec, out)
        self._fleet.slots[self._index].load += len(requests)
        if self._pump is None or self._pump.done():
            self._handle = self._stream = None
            self._pump = asyncio.create_task(self._receive_all())
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_soon())
        return tickets

    def forget(self, tickets: Iterable[Ticket]) -> None:
        """Nobody waits for these any more; groups that come all the same are dropped."""
        for ticket in tickets:
            self._close(ticket)
        if not self._open:
            for task in (self._pump, self._sender):
                if task is not None:
                    task.cancel()
            self._pump = self._sender = None  # who asks next starts its own

    def stop(self, error: Exception) -> None:
        """End what is under way; whoever waits for it is told why."""
        self._fail(error, list(self._open))
        for task in (self._pump, self._sender):
            if task is not None:
                task.cancel()
        self._pump = self._sender = None

    def _close(self, ticket: Ticket) -> PendingRequest | None:
        asked = self._open.pop(ticket, None)
        if asked is not None:
            self._fleet.slots[self._index].load -= 1
        return asked

    def _deliver(self, ticket: Ticket, item: Group | BaseException) -> None:
        asked = self._close(ticket)
        if asked is not None:
            asked.out.put_nowait(item)

    async def _send_soon(self) -> None:
        """Send what has gathered, unless the pump has yet to find its worker: it sends then."""
        await asyncio.sleep(GATHER_S)
        while self._handle is not None and any(not a.sent for a in self._open.values()):
            await self._send(self._handle)

    async def _send(self, handle: Any) -> None:
        """Submit everything unsent, in batches of one way of sampling."""
        unsent = [(ticket, asked) for ticket, asked in self._open.items() if not asked.sent]
        for _, asked in unsent:
            asked.sent = True
        batches: dict[SamplingSpec, list[tuple[Ticket, PendingRequest]]] = {}
        for item in unsent:
            batches.setdefault(item[1].spec, []).append(item)
        for spec, items in batches.items():
            work = handle.submit.remote([(ticket, a.request) for ticket, a in items], spec)
            try:
                await call(work, self._timeout_s, "sending requests to a rollout worker")
            except Exception as error:  # noqa: BLE001 judged by the failure policy
                # A lost worker is the pump's business: its stream breaks as well.
                if decide(error) is not Decision.RESTART:
                    self._fail(error, [ticket for ticket, _ in items])

    async def _receive_all(self) -> None:
        """Read item after item until every request has its group."""
        try:
            while self._open:
                if not await self._fleet.on_worker(self._index, self._receive):
                    for ticket in list(self._open):
                        self._deliver(ticket, self._lost(self._open[ticket]))
        except Exception as error:  # noqa: BLE001 crosses to those who wait, where it is raised
            self._fail(error, list(self._open))

    async def _receive(self, handle: Any) -> None:
        """One item of a worker's stream, which is opened first if the worker is new."""
        if handle is not self._handle:
            self._count_losses()
            self._stream = handle.groups.options(num_returns="streaming").remote()
            self._handle = handle
            await self._send(handle)
        if not self._open:
            return
        data = await call(
            _next_item(self._stream), self._timeout_s, "a rollout worker's next groups"
        )
        requests = {ticket: asked.request for ticket, asked in self._open.items()}
        for ticket, group in unpack_groups(data, requests):
            self._deliver(ticket, group)

    def _count_losses(self) -> None:
        """The worker that had the sent requests is gone; give up on those that lost too many."""
        for ticket, asked in list(self._open.items()):
            asked.losses += asked.sent
            asked.sent = False
            if asked.losses >= MAX_LOSSES:
                self._deliver(ticket, self._lost(asked))

    def _lost(self, asked: PendingRequest) -> Group:
        failure = f"lost with its rollout worker {MAX_LOSSES} times"
        return Group(asked.request, failure=failure)

    def _fail(self, error: BaseException, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._deliver(ticket, error)


async def _next_item(stream: AsyncIterator[Awaitable[bytes]]) -> bytes:
    """The next item of a streaming call, fetched."""
    return await (await anext(stream))
