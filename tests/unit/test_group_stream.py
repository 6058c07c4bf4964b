"""One slot's requests over a worker that may be lost: nothing is lost, doubled or left running."""

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


class Worker:
    """Answers what it is sent, in order; after `lives` groups it is lost."""

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
        for ticket, asked in items:
            self.seen.append(asked.number)
            if self._silent:
                continue
            self._out.put_nowait(pack_groups([(ticket, Group(asked))]))

    async def _groups(self):
        while True:
            item: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            data = await self._out.get()
            if self._lives == 0:
                raise InfrastructureError("worker lost")
            self._lives -= 1
            item.set_result(data)
            yield item


def fleet_of(make: Callable[[], Worker]) -> Fleet:
    async def prepare(handle) -> None:
        pass

    return Fleet("rollout", 1, lambda index: make(), lambda handle: None, prepare)


async def ask(stream: GroupStream, numbers: range) -> list[Group]:
    out: asyncio.Queue[Group | BaseException] = asyncio.Queue()
    stream.ask([request(n) for n in numbers], SPEC, out)
    groups = []
    for _ in numbers:
        item = await asyncio.wait_for(out.get(), 5)
        if isinstance(item, BaseException):
            raise item
        groups.append(item)
    return groups


async def test_each_caller_gets_its_own_groups_even_under_the_same_numbers():
    fleet = fleet_of(Worker)
    stream = GroupStream(fleet, 0, 5.0)
    first, second = await asyncio.gather(ask(stream, range(3)), ask(stream, range(2)))
    assert [g.number for g in first] == [0, 1, 2]
    assert [g.number for g in second] == [0, 1]
    assert fleet.slots[0].load == 0
    assert fleet.slots[0].handle.batches == 1, "requests that come together travel together"


async def test_requests_are_sent_in_one_batch_for_each_way_of_sampling():
    fleet = fleet_of(Worker)
    stream = GroupStream(fleet, 0, 5.0)
    out: asyncio.Queue[Group | BaseException] = asyncio.Queue()
    for number in range(6):  # as a teacher does, one request per call
        stream.ask([request(number)], SamplingSpec(temperature=number % 2), out)
    groups = [await asyncio.wait_for(out.get(), 5) for _ in range(6)]
    assert not any(isinstance(group, BaseException) for group in groups)
    assert fleet.slots[0].handle.batches == 2


async def test_callers_are_notified_when_the_stream_stops():
    fleet = fleet_of(lambda: Worker(silent=True))
    stream = GroupStream(fleet, 0, 5.0)
    waiting = asyncio.create_task(ask(stream, range(2)))
    await asyncio.sleep(0.02)
    stream.stop(InfrastructureError("these rollout workers were stopped"))
    with pytest.raises(InfrastructureError, match="were stopped"):
        await asyncio.wait_for(waiting, 5)


async def test_what_a_lost_worker_had_is_asked_of_its_successor_once():
    workers: list[Worker] = []

    def make() -> Worker:
        workers.append(Worker(lives=2 if not workers else 1000))
        return workers[-1]

    fleet = fleet_of(make)
    groups = await ask(GroupStream(fleet, 0, 5.0), range(5))
    assert sorted(g.number for g in groups) == [0, 1, 2, 3, 4]
    assert not any(g.failure for g in groups)
    assert workers[1].seen == [2, 3, 4]
    assert fleet.replaced == 1


async def test_requests_whose_worker_is_lost_again_and_again_fail_with_the_reason():
    fleet = fleet_of(lambda: Worker(lives=0))
    groups = await ask(GroupStream(fleet, 0, 5.0), range(2))
    assert [g.failure for g in groups] == ["lost with its rollout worker 3 times"] * 2
    assert fleet.slots[0].load == 0


async def test_the_users_mistake_is_raised_and_the_stream_serves_on():
    fleet = fleet_of(lambda: Worker(refuse=ConfigError("budget.codec", "digits", "no", "fix")))
    stream = GroupStream(fleet, 0, 5.0)
    with pytest.raises(ConfigError):
        await ask(stream, range(1))
    fleet.slots[0].handle._refuse = None
    assert len(await ask(stream, range(2))) == 2


async def test_who_leaves_early_leaves_nothing_running():
    fleet = fleet_of(lambda: Worker())
    stream = GroupStream(fleet, 0, 5.0)
    out: asyncio.Queue[Group | BaseException] = asyncio.Queue()
    before = len(asyncio.all_tasks())
    stream.forget(stream.ask([request(1)], SPEC, out))
    await asyncio.sleep(0.02)
    assert len(asyncio.all_tasks()) == before
    assert fleet.slots[0].load == 0
    assert out.empty()
    stream.forget(stream.ask([request(1)], SPEC, out))
    assert len(await ask(stream, range(2))) == 2, "asked before the cancelled tasks have ended"
