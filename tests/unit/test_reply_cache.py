"""Stored replies are found again, whatever happened to the file."""

import asyncio
import tracemalloc

import pytest

from bard_ray.distill.reply_cache import CachedTeacher, ReplyCache, reply_cache_path
from bard_ray.distill.teacher import Reply, TeacherRequest
from bard_ray.distill.teachers.openai import OpenAIBackend
from bard_ray.errors import InfrastructureError
from bard_ray.records import Message
from tests.chat_server import DirectoryHost

KEYS = [f"{number:032x}" for number in range(4)]


def reply(number):
    return Reply(f"think {number}\n\u2028ß\ud800", "answer", "length", "", 3, number)


@pytest.fixture
def opened():
    """Opens caches, or teachers with one, and closes them at the end."""
    things = []

    def open_one(kind, *args):
        things.append(kind(*args))
        return things[-1]

    yield open_one
    for thing in things:
        cache = thing if isinstance(thing, ReplyCache) else thing._cache
        cache.close()


def put(cache, *numbers):
    async def go():
        for number in numbers:
            await cache.put(KEYS[number], reply(number))

    asyncio.run(go())


class CountingTeacher:
    """A teacher that counts its requests."""

    def __init__(self, replies=()):
        self.seeds, self.replies = [], list(replies)

    async def reply(self, request):
        self.seeds.append(request.seed)
        await asyncio.sleep(0.01)
        given = self.replies.pop(0) if self.replies else Reply("t", str(request.seed))
        if isinstance(given, Exception):
            raise given
        return given

    def counters(self):
        return {"requests": len(self.seeds)}

    async def close(self):
        pass


def request(seed=0):
    return TeacherRequest((Message("user", "1+1?"),), 16, seed=seed)


def test_replies_come_back_as_they_were(opened, tmp_path):
    cache = opened(ReplyCache, tmp_path / "new" / "r.jsonl")
    put(cache, 0, 1)
    assert [cache.get(key) for key in KEYS] == [reply(0), reply(1), None, None]
    again = opened(ReplyCache, cache.path)
    assert len(again) == 2
    assert again.get(KEYS[1]) == reply(1)
    assert again.unreadable == 0


@pytest.mark.parametrize(("cut", "lost"), [(1, False), (2, True), (20, True), (60, True)])
def test_a_torn_last_line_costs_that_reply_only(opened, tmp_path, cut, lost):
    path = tmp_path / "r.jsonl"
    put(opened(ReplyCache, path), 0, 1)
    path.write_bytes(path.read_bytes()[:-cut])
    second = None if lost else reply(1)  # without its newline alone it is whole
    torn = opened(ReplyCache, path)
    put(torn, 2)
    assert [torn.get(key) for key in KEYS[:3]] == [reply(0), second, reply(2)]
    after = opened(ReplyCache, path)
    assert [after.get(key) for key in KEYS[:3]] == [reply(0), second, reply(2)]
    assert after.unreadable == lost


def test_damaged_lines_are_skipped_and_counted(opened, tmp_path):
    path = tmp_path / "r.jsonl"
    cache = opened(ReplyCache, path)
    put(cache, 0, 1, 2)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\0" * 300 + second[9:] + third.replace(b'"think', b'"thank'))
    damaged = opened(ReplyCache, path)
    assert damaged.unreadable == 1
    assert [damaged.get(key) for key in KEYS[:3]] == [reply(0), None, None]
    assert damaged.unreadable == 2
    put(damaged, 2)
    assert damaged.get(KEYS[2]) == reply(2)


def test_two_processes_see_each_others_replies(opened, tmp_path):
    one, other = opened(ReplyCache, tmp_path / "r.jsonl"), opened(ReplyCache, tmp_path / "r.jsonl")
    put(one, 0)
    put(other, 1)
    put(one, 2)
    assert [other.get(key) for key in KEYS[:3]] == [reply(0), reply(1), reply(2)]
    assert [one.get(key) for key in KEYS[:3]] == [reply(0), reply(1), reply(2)]


def test_a_file_that_cannot_be_written_is_an_infrastructure_error(opened, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="replies cannot be stored"):
        opened(ReplyCache, tmp_path / "file" / "r.jsonl")


def test_100k_replies_take_a_file_not_memory(opened, tmp_path):
    path, text = tmp_path / "r.jsonl", "x" * 1000
    with path.open("w") as file:
        for number in range(100_000):
            file.write(
                f'{{"key": "{number:032x}", "think": "{text}", "answer_text": "{number}"}}\n'
            )
    tracemalloc.start()
    cache = opened(ReplyCache, path)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(cache) == 100_000
    assert held < 25e6  # of 100 MB
    assert cache.get(f"{54_321:032x}") == Reply(text, "54321")


def test_equal_requests_are_answered_once(opened, tmp_path):
    async def go():
        teacher = CountingTeacher()
        cached = opened(CachedTeacher, teacher, tmp_path / "r.jsonl")
        replies = await asyncio.gather(*(cached.reply(request(seed % 2)) for seed in range(10)))
        again = opened(CachedTeacher, CountingTeacher(), tmp_path / "r.jsonl")
        await again.reply(request(0))
        return replies, cached.counters(), again.counters()

    replies, counters, again = asyncio.run(go())
    assert replies == [Reply("t", "0"), Reply("t", "1")] * 5
    assert counters == {"requests": 2, "reused": 8, "unreadable": 0}
    assert again == {"requests": 0, "reused": 1, "unreadable": 0}


def test_a_request_that_waited_for_a_failed_one_is_sent_itself(opened, tmp_path):
    async def go():
        teacher = CountingTeacher([InfrastructureError("gone")])
        cached = opened(CachedTeacher, teacher, tmp_path / "r.jsonl")
        both = await asyncio.gather(
            cached.reply(request()), cached.reply(request()), return_exceptions=True
        )
        return both, teacher.seeds

    (first, second), seeds = asyncio.run(go())
    assert isinstance(first, InfrastructureError)
    assert second == Reply("t", "0")
    assert seeds == [0, 0]


def test_a_request_that_waited_for_a_canceled_one_is_sent_itself(opened, tmp_path):
    async def go():
        cached = opened(CachedTeacher, CountingTeacher(), tmp_path / "r.jsonl")
        first = asyncio.create_task(cached.reply(request()))
        second = asyncio.create_task(cached.reply(request()))
        await asyncio.sleep(0)
        first.cancel()
        return await second, cached.counters()["requests"]

    assert asyncio.run(go()) == (Reply("t", "0"), 2)


def test_failed_replies_are_not_stored(opened, tmp_path):
    async def go():
        failed = Reply("", "", "failed", "too long")
        cached = opened(CachedTeacher, CountingTeacher([failed]), tmp_path / "r.jsonl")
        return [await cached.reply(request()) for _ in range(3)], cached.counters()

    replies, counters = asyncio.run(go())
    assert [r.finish for r in replies] == ["failed", "stop", "stop"]
    assert counters == {"requests": 2, "reused": 1, "unreadable": 0}


def test_the_file_name_depends_on_what_decides_the_texts(opened, tmp_path):
    def path(**params):
        params = {"model": "m", "base_url": "http://$HOST:1/v1"} | params
        return reply_cache_path(DirectoryHost(tmp_path), OpenAIBackend(**params))

    assert path() == path(concurrency=1, key_env="KEY", prompt_price=3.0, retries=0)
    different = [
        path(), path(model="n"), path(base_url="http://other:1/v1"), path(extra_body={"top_p": 0.9})
    ]  # fmt: skip
    assert len(set(different)) == 4
