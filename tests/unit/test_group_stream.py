"""Requests of a slot whose worker may be lost: none is lost, duplicated or left running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from actors.cluster.fleet import Fleet
from actors.cluster.wire import pack_groups
from actors.rollout.stream import GroupStream
from bard_ray.errors import ConfigError, InfrastructureError
from bard_ray.records import Group, GroupRequest, Message, Question, SamplingSpec

SPEC = SamplingSpec()


def request(number: int) -> GroupRequest:
    return GroupRequest(number, Question(f"q{number}", (Message("user", "?"),), "2"), (), seed=0)


class StreamWorker:
    """Returns a group for each request, in order; after `lives` groups it is lost."""

    def __init__(
        self, lives: int = 1000, refuse: Exception | None = None, silent: bool = False
    ) -> None:
        self.seen: list[int] = []
        self.batches = 0
        self._lives, self._refuse, self._silent = lives, refuse, silent
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self.submit = SimpleNamespace(remote=self._submit)
        options = SimpleNamespace(remote=self._groups)
        self.groups = SimpleNamespace(options=lambda **_: options)

    async def _submit(self, items, spec) -> None:
        if self._refuse is not None:
            raise self._refuse
        self.batches += 1
        for ticket, item in items:
            self.seen.append(item.number)
            if self._silent:
                continue
            self._out.put_nowait(pack_groups([(ticket, Group(item))]))

    async def _groups(self):
        while True:
            item: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            data = await self._out.get()
            if self._lives == 0:
                raise InfrastructureError("worker lost")
            self._lives -= 1
            item.set_result(data)
            yield item


def fleet_of(make: Callable[[], StreamWorker]) -> Fleet:
    async def prepare(handle) -> None:
        pass

    return Fleet("rollout", 1, lambda index: make(), lambda handle: None, prepare)


async def collect(stream: GroupStream, numbers: range) -> list[Group]:
    out: asyncio.Queue[Group | BaseException] = asyncio.Queue()
    stream.submit([request(n) for n in numbers], SPEC, out)
    groups = []
    for _ in numbers:
        item = await asyncio.wait_for(out.get(), 5)
        if isinstance(item, BaseException):
            raise item
        groups.append(item)
    return groups


async def test_each_caller_gets_its_own_groups_even_under_the_same_numbers():
    fleet = fleet_of(StreamWorker)
    stream = GroupStream(fleet, 0, 5.0)
    first, second = await asyncio.gather(collect(stream, range(3)), collect(stream, range(2)))
    assert [g.number for g in first] == [0, 1, 2]
    assert [g.number for g in second] == [0, 1]
    assert fleet.slots[0].load == 0
    assert fleet.slots[0].handle.batches == 1, "requests submitted together are sent as one batch"


async def test_requests_are_sent_in_one_batch_for_each_way_of_sampling():
    fleet = fleet_of(StreamWorker)
    stream = GroupStream(fleet, 0, 5.0)
    out: asyncio.Queue[Group | BaseException] = asyncio.Queue()
    for number in range(6):  # as a teacher does, one request per call
        stream.submit([request(number)], SamplingSpec(temperature=number % 2), out)
    groups = [await asyncio.wait_for(out.get(), 5) for _ in range(6)]
    assert not any(isinstance(group, BaseException) for group in groups)
    assert fleet.slots[0].handle.batches == 2


async def test_callers_are_notified_when_the_stream_stops():
    fleet = fleet_of(lambda: StreamWorker(silent=True))
    stream = GroupStream(fleet, 0, 5.0)
    waiting = asyncio.create_task(collect(stream, range(2)))
    await asyncio.sleep(0.02)
    stream.stop(InfrastructureError("these rollout workers were stopped"))
    with pytest.raises(InfrastructureError, match="were stopped"):
        await asyncio.wait_for(waiting, 5)


async def test_requests_of_a_lost_worker_are_sent_once_to_its_replacement():
    workers: list[StreamWorker] = []

    def make() -> StreamWorker:
        workers.append(StreamWorker(lives=2 if not workers else 1000))
        return workers[-1]

    fleet = fleet_of(make)
    groups = await collect(GroupStream(fleet, 0, 5.0), range(5))
    assert sorted(g.number for g in groups) == [0, 1, 2, 3, 4]
    assert not any(g.failure for g in groups)
    assert workers[1].seen == [2, 3, 4]
    assert fleet.replaced == 1


async def test_requests_that_lose_three_workers_fail_with_the_reason():
    fleet = fleet_of(lambda: StreamWorker(lives=0))
    groups = await collect(GroupStream(fleet, 0, 5.0), range(2))
    assert [str(g.failure) for g in groups] == ["lost with its rollout worker 3 times"] * 2
    assert fleet.slots[0].load == 0


async def test_a_user_error_is_raised_and_the_stream_stays_usable():
    fleet = fleet_of(
        lambda: StreamWorker(refuse=ConfigError("budget.codec", "digits", "no", "fix"))
    )
    stream = GroupStream(fleet, 0, 5.0)
    with pytest.raises(ConfigError):
        await collect(stream, range(1))
    fleet.slots[0].handle._refuse = None
    assert len(await collect(stream, range(2))) == 2


async def test_discarded_requests_leave_no_task_running():
    fleet = fleet_of(lambda: StreamWorker())
    stream = GroupStream(fleet, 0, 5.0)
    out: asyncio.Queue[Group | BaseException] = asyncio.Queue()
    before = len(asyncio.all_tasks())
    stream.discard(stream.submit([request(1)], SPEC, out))
    await asyncio.sleep(0.02)
    assert len(asyncio.all_tasks()) == before
    assert fleet.slots[0].load == 0
    assert out.empty()
    stream.discard(stream.submit([request(1)], SPEC, out))
    assert len(await collect(stream, range(2))) == 2, (
        "submitted before the canceled tasks have ended"
    )
