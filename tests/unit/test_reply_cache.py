"""Replies that were paid for are found again, whatever happened to the file."""

import asyncio
import tracemalloc

import pytest

from bard_ray.distill.reply_cache import CachedTeacher, ReplyCache, reply_cache_path
from bard_ray.distill.teacher import Reply, TeacherRequest
from bard_ray.distill.teachers.openai import OpenAIChat
from bard_ray.errors import InfrastructureError
from bard_ray.records import Message
from tests.chat_server import DirectoryHost

KEYS = [f"{number:032x}" for number in range(4)]


def reply(number):
    return Reply(f"think {number}\n\u2028ß\ud800", "answer", "length", "", 3, number)


@pytest.fixture
def opened():
    """Opens ledgers, or teachers with one, that are closed in the end."""
    things = []

    def open_one(kind, *args):
        things.append(kind(*args))
        return things[-1]

    yield open_one
    for thing in things:
        ledger = thing if isinstance(thing, ReplyCache) else thing._ledger
        ledger.close()


def keep(ledger, *numbers):
    async def go():
        for number in numbers:
            await ledger.keep(KEYS[number], reply(number))

    asyncio.run(go())


class Slow:
    """A teacher that counts what it is asked."""

    def __init__(self, replies=()):
        self.asked, self.replies = [], list(replies)

    async def reply(self, ask):
        self.asked.append(ask.seed)
        await asyncio.sleep(0.01)
        given = self.replies.pop(0) if self.replies else Reply("t", str(ask.seed))
        if isinstance(given, Exception):
            raise given
        return given

    def counters(self):
        return {"asked": len(self.asked)}

    async def close(self):
        pass


def ask(seed=0):
    return TeacherRequest((Message("user", "1+1?"),), 16, seed=seed)


def test_replies_come_back_as_they_were(opened, tmp_path):
    ledger = opened(ReplyCache, tmp_path / "new" / "r.jsonl")
    keep(ledger, 0, 1)
    assert [ledger.find(key) for key in KEYS] == [reply(0), reply(1), None, None]
    again = opened(ReplyCache, ledger.path)
    assert len(again) == 2
    assert again.find(KEYS[1]) == reply(1)
    assert again.unreadable == 0


@pytest.mark.parametrize(("cut", "lost"), [(1, False), (2, True), (20, True), (60, True)])
def test_a_torn_last_line_costs_that_reply_only(opened, tmp_path, cut, lost):
    path = tmp_path / "r.jsonl"
    keep(opened(ReplyCache, path), 0, 1)
    path.write_bytes(path.read_bytes()[:-cut])
    second = None if lost else reply(1)  # without its newline alone it is whole
    torn = opened(ReplyCache, path)
    keep(torn, 2)
    assert [torn.find(key) for key in KEYS[:3]] == [reply(0), second, reply(2)]
    after = opened(ReplyCache, path)
    assert [after.find(key) for key in KEYS[:3]] == [reply(0), second, reply(2)]
    assert after.unreadable == lost


def test_damaged_lines_are_passed_over_and_counted(opened, tmp_path):
    path = tmp_path / "r.jsonl"
    ledger = opened(ReplyCache, path)
    keep(ledger, 0, 1, 2)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\0" * 300 + second[9:] + third.replace(b'"think', b'"thank'))
    damaged = opened(ReplyCache, path)
    assert damaged.unreadable == 1
    assert [damaged.find(key) for key in KEYS[:3]] == [reply(0), None, None]
    assert damaged.unreadable == 2
    keep(damaged, 2)
    assert damaged.find(KEYS[2]) == reply(2)


def test_two_processes_see_what_the_other_one_keeps(opened, tmp_path):
    one, other = opened(ReplyCache, tmp_path / "r.jsonl"), opened(ReplyCache, tmp_path / "r.jsonl")
    keep(one, 0)
    keep(other, 1)
    keep(one, 2)
    assert [other.find(key) for key in KEYS[:3]] == [reply(0), reply(1), reply(2)]
    assert [one.find(key) for key in KEYS[:3]] == [reply(0), reply(1), reply(2)]


def test_a_file_that_cannot_be_written_is_an_error_of_the_machine(opened, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="replies cannot be kept"):
        opened(ReplyCache, tmp_path / "file" / "r.jsonl")


def test_100k_replies_take_a_file_not_memory(opened, tmp_path):
    path, text = tmp_path / "r.jsonl", "x" * 1000
    with path.open("w") as file:
        for number in range(100_000):
            file.write(
                f'{{"key": "{number:032x}", "think": "{text}", "answer_text": "{number}"}}\n'
            )
    tracemalloc.start()
    ledger = opened(ReplyCache, path)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(ledger) == 100_000
    assert held < 25e6  # of 100 MB
    assert ledger.find(f"{54_321:032x}") == Reply(text, "54321")


def test_the_same_ask_is_answered_once(opened, tmp_path):
    async def go():
        teacher = Slow()
        kept = opened(CachedTeacher, teacher, tmp_path / "r.jsonl")
        replies = await asyncio.gather(*(kept.reply(ask(seed % 2)) for seed in range(10)))
        again = opened(CachedTeacher, Slow(), tmp_path / "r.jsonl")
        await again.reply(ask(0))
        return replies, kept.counters(), again.counters()

    replies, counters, again = asyncio.run(go())
    assert replies == [Reply("t", "0"), Reply("t", "1")] * 5
    assert counters == {"asked": 2, "reused": 8, "unreadable": 0}
    assert again == {"asked": 0, "reused": 1, "unreadable": 0}


def test_who_waits_for_an_ask_that_fails_asks_for_itself(opened, tmp_path):
    async def go():
        teacher = Slow([InfrastructureError("gone")])
        kept = opened(CachedTeacher, teacher, tmp_path / "r.jsonl")
        both = await asyncio.gather(kept.reply(ask()), kept.reply(ask()), return_exceptions=True)
        return both, teacher.asked

    (first, second), asked = asyncio.run(go())
    assert isinstance(first, InfrastructureError)
    assert second == Reply("t", "0")
    assert asked == [0, 0]


def test_who_waits_for_an_ask_that_is_cancelled_asks_for_itself(opened, tmp_path):
    async def go():
        kept = opened(CachedTeacher, Slow(), tmp_path / "r.jsonl")
        first = asyncio.create_task(kept.reply(ask()))
        second = asyncio.create_task(kept.reply(ask()))
        await asyncio.sleep(0)
        first.cancel()
        return await second, kept.counters()["asked"]

    assert asyncio.run(go()) == (Reply("t", "0"), 2)


def test_failed_replies_are_not_kept(opened, tmp_path):
    async def go():
        failed = Reply("", "", "failed", "too long")
        kept = opened(CachedTeacher, Slow([failed]), tmp_path / "r.jsonl")
        return [await kept.reply(ask()) for _ in range(3)], kept.counters()

    replies, counters = asyncio.run(go())
    assert [r.ended for r in replies] == ["failed", "stop", "stop"]
    assert counters == {"asked": 2, "reused": 1, "unreadable": 0}


def test_the_file_is_named_after_what_decides_the_texts(opened, tmp_path):
    def path(**params):
        params = {"model": "m", "base_url": "http://$HOST:1/v1"} | params
        return reply_cache_path(DirectoryHost(tmp_path), OpenAIChat(**params))

    assert path() == path(concurrency=1, key_env="KEY", prompt_price=3.0, retries=0)
    different = [
        path(), path(model="n"), path(base_url="http://other:1/v1"), path(extra_body={"top_p": 0.9})
    ]  # fmt: skip
    assert len(set(different)) == 4
