"""The driver's side of one rollout worker: batches of requests out, one stream of groups back.

All callers share one streaming call, which lasts as long as requests are in flight: a streaming
call for each group held the worker's GIL for a tenth of the engine's time (tiny recipe, measured).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.cluster.supervise import Decision, call, decide
from actors.cluster.wire import Ticket, unpack_groups
from bard_ray.records import Failure, FailureKind, Group, GroupRequest, SamplingSpec

if TYPE_CHECKING:
    from actors.cluster.fleet import Fleet

SUBMIT_LINGER_S = 0.005  # how long a request waits for others before the batch is sent
MAX_LOSSES = 3  # workers lost with a request before it counts as failed

GroupQueue = asyncio.Queue[Group | BaseException]  # where a caller receives its groups


@dataclass
class PendingRequest:
    """A request in flight.

    Attributes:
        out: queue that its group or its error goes to.
        sent: the current worker has it.
        losses: workers that were lost while they had it.
    """

    request: GroupRequest
    spec: SamplingSpec
    out: GroupQueue
    sent: bool = False
    losses: int = 0


class GroupStream:
    """The requests of one fleet slot; those of a lost worker are sent again to its replacement.

    `_pending` holds every request whose group has not arrived. While it is not empty, the task
    `_receiver` reads the worker's stream; it ends with the last group, so no task is left behind.
    """

    def __init__(self, fleet: Fleet, index: int, timeout_s: float) -> None:
        self._fleet, self._index, self._timeout_s = fleet, index, timeout_s
        self._pending: dict[Ticket, PendingRequest] = {}
        self._calls = itertools.count()
        self._handle: Any = None  # the worker whose stream is being read
        self._stream: Any = None
        self._receiver: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None

    def submit(
        self, requests: Sequence[GroupRequest], spec: SamplingSpec, out: GroupQueue
    ) -> list[Ticket]:
        """Submit requests; for each, `out` receives the group or the error that ended it."""
        number_of_call = next(self._calls)
        tickets = [(number_of_call, request.number) for request in requests]
        for ticket, request in zip(tickets, requests, strict=True):
            self._pending[ticket] = PendingRequest(request, spec, out)
        self._fleet.slots[self._index].load += len(requests)
        if self._receiver is None or self._receiver.done():
            self._handle = self._stream = None
            self._receiver = asyncio.create_task(self._receive_all())
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_after_linger())
        return tickets

    def discard(self, tickets: Iterable[Ticket]) -> None:
        """Forget requests whose caller stopped waiting; their groups are dropped on arrival."""
        for ticket in tickets:
            self._pop(ticket)
        if not self._pending:
            self._cancel_tasks()

    def stop(self, error: Exception) -> None:
        """Fail all pending requests with `error` and stop reading."""
        self._fail(error, list(self._pending))
        self._cancel_tasks()

    def _cancel_tasks(self) -> None:
        for task in (self._receiver, self._sender):
            if task is not None:
                task.cancel()
        self._receiver = self._sender = None  # the next `submit` starts new ones

    def _pop(self, ticket: Ticket) -> PendingRequest | None:
        pending = self._pending.pop(ticket, None)
        if pending is not None:
            self._fleet.slots[self._index].load -= 1
        return pending

    def _deliver(self, ticket: Ticket, item: Group | BaseException) -> None:
        pending = self._pop(ticket)
        if pending is not None:
            pending.out.put_nowait(item)

    async def _send_after_linger(self) -> None:
        """Send the unsent requests as batches; before a worker is known, `_receive` sends them."""
        await asyncio.sleep(SUBMIT_LINGER_S)
        while self._handle is not None and any(not p.sent for p in self._pending.values()):
            await self._send(self._handle)

    async def _send(self, handle: Any) -> None:
        """Submit all unsent requests, one batch for each way of sampling."""
        unsent = [(ticket, p) for ticket, p in self._pending.items() if not p.sent]
        for _, pending in unsent:
            pending.sent = True
        batches: dict[SamplingSpec, list[tuple[Ticket, PendingRequest]]] = {}
        for item in unsent:
            batches.setdefault(item[1].spec, []).append(item)
        for spec, items in batches.items():
            work = handle.submit.remote([(ticket, p.request) for ticket, p in items], spec)
            try:
                await call(work, self._timeout_s, "sending requests to a rollout worker")
            except Exception as error:  # noqa: BLE001 judged by the failure policy
                # `_receive_all` handles a lost worker: its stream breaks as well.
                if decide(error) is not Decision.RESTART:
                    self._fail(error, [ticket for ticket, _ in items])

    async def _receive_all(self) -> None:
        """Read items from the worker's stream until no request is pending."""
        try:
            while self._pending:
                if not await self._fleet.on_worker(self._index, self._receive):
                    for ticket in list(self._pending):
                        self._deliver(ticket, self._lost(self._pending[ticket]))
        except Exception as error:  # noqa: BLE001 delivered to the callers, which raise it
            self._fail(error, list(self._pending))

    async def _receive(self, handle: Any) -> None:
        """Deliver the groups of one stream item; opens the stream first if the worker is new."""
        if handle is not self._handle:
            self._count_losses()
            self._stream = handle.groups.options(num_returns="streaming").remote()
            self._handle = handle
            await self._send(handle)
        if not self._pending:
            return
        data = await call(
            _next_item(self._stream), self._timeout_s, "a rollout worker's next groups"
        )
        requests = {ticket: pending.request for ticket, pending in self._pending.items()}
        for ticket, group in unpack_groups(data, requests):
            self._deliver(ticket, group)

    def _count_losses(self) -> None:
        """Mark requests of the previous worker unsent; fail those with `MAX_LOSSES` losses."""
        for ticket, pending in list(self._pending.items()):
            pending.losses += pending.sent
            pending.sent = False
            if pending.losses >= MAX_LOSSES:
                self._deliver(ticket, self._lost(pending))

    def _lost(self, pending: PendingRequest) -> Group:
        detail = f"lost with its rollout worker {MAX_LOSSES} times"
        return Group(pending.request, failure=Failure(FailureKind.WORKER_LOST, detail))

    def _fail(self, error: BaseException, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._deliver(ticket, error)


async def _next_item(stream: AsyncIterator[Awaitable[bytes]]) -> bytes:
    """The next item of a streaming call, fetched."""
    return await (await anext(stream))
