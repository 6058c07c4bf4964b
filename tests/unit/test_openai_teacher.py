"""The teacher behind an HTTP endpoint: what it sends, what it reads, and what faults cost."""

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from bard_ray.distill.chat import BadBodyError, Tags, read_completion
from bard_ray.distill.rate_limiter import RateLimiter, backoff_s, retry_after_s
from bard_ray.distill.teacher import Reply, TeacherRequest, make_backends
from bard_ray.errors import ConfigError, InfrastructureError
from bard_ray.records import Message
from tests.chat_server import ChatServer, DirectoryHost, fixed, says

ROOT = Path(__file__).resolve().parents[2]
SECRET = "sk-very-secret"


@pytest.fixture(autouse=True)
def _loopback(monkeypatch):
    """No proxy of this machine between the client and the server, and short waits."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TEACHER_KEY", SECRET)
    monkeypatch.setattr("bard_ray.distill.rate_limiter.FIRST_BACKOFF_S", 0.02)


def request(number=0, **changes):
    fields = {"messages": (Message("user", f"{number}?"),), "max_tokens": 16, "seed": number}
    return TeacherRequest(**(fields | changes))


async def with_teacher(server, directory, requests, **params):
    """TeacherRequest all at once; replies (or errors) and counters."""
    entry = {"backend": "openai", "model": "m", "base_url": server.url, **params}
    teacher = await make_backends({"r1": entry})["r1"].open("r1", DirectoryHost(directory))
    replies = await asyncio.gather(*map(teacher.reply, requests), return_exceptions=True)
    await teacher.close()
    return replies, teacher.counters()


def echo(body):
    return f"<think>about {body['messages'][0]['content']}</think>\n\\boxed{{{body['seed']}}}"


async def test_requests_and_replies(tmp_path):
    async with ChatServer(says(echo)) as server:
        (reply,), counters = await with_teacher(
            server, tmp_path, [request(7, temperature=0.0)], key_env="TEACHER_KEY",
            extra_body={"top_p": 0.9, "temperature": None}, prompt_price=2.0,
            completion_price=8.0, limit_field="max_completion_tokens",
        )  # fmt: skip
    assert reply == Reply("about 7?", "\\boxed{7}", "stop", "", 10, 5)
    assert server.requests == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "7?"}],
            "max_completion_tokens": 16,
            "seed": 7,
            "top_p": 0.9,
        }
    ]
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert counters == {
        "requests": 1, "http_requests": 1, "answered": 1, "failed": 0, "without_usage": 0,
        "prompt_tokens": 10, "completion_tokens": 5, "reused": 0, "unreadable": 0,
        "cost": pytest.approx((10 * 2 + 5 * 8) / 1e6),
    }  # fmt: skip
    assert SECRET not in "".join(path.read_text() for path in tmp_path.iterdir())


async def test_faults_cost_retries_and_nothing_else(tmp_path):
    faults = ["429", "reset", "reset_middle", "truncated", "500", "html", "slow", "503", "409"]
    async with ChatServer(says(echo), faults * 3, slow_s=4.5) as server:
        requests = [request(number) for number in range(30)]
        replies, counters = await with_teacher(
            server, tmp_path, requests, timeout_s=3.0, concurrency=8, retries=30
        )
        assert [reply.answer_text for reply in replies] == [f"\\boxed{{{n}}}" for n in range(30)]
        # Each was delivered once, and never requested again after that.
        assert sorted(server.delivered.values()) == [1] * 30
        assert len(server.requests) == counters["http_requests"] == 30 + 27
        assert sum(server.lost.values()) == 6
        assert server.most_under_way <= 8
        retried = {k: v for k, v in counters.items() if k.startswith("retried")}
        assert retried == {
            "retried_429": 3, "retried_connection": 6, "retried_bad_body": 6, "retried_500": 3,
            "retried_timeout": 3, "retried_503": 3, "retried_409": 3,
        }  # fmt: skip
        again, reused = await with_teacher(server, tmp_path, requests)
        assert again == replies
        assert reused["requests"] == 0
        assert reused["reused"] == 30


async def test_retry_after_holds_every_request_back(tmp_path):
    async def answer(path, body):
        await asyncio.sleep(0.1)
        return await says(echo)(path, body)

    async with ChatServer(answer, ["429"]) as server:  # with Retry-After: 0.3
        await with_teacher(
            server, tmp_path, [request(number) for number in range(4)], concurrency=3
        )
    # The fourth request, which was never refused, could have gone after 0.1 s.
    assert len(server.times) == 5
    assert server.times[3] - server.times[0] > 0.28
    async with ChatServer(says(echo), ["429"]) as server:
        _, counters = await with_teacher(server, tmp_path / "b", [request()], max_wait_s=0.2)
        assert counters["answered"] == 0
        assert len(server.requests) == 1


async def test_a_lost_endpoint_ends_the_run_and_replies_so_far_stay(tmp_path, monkeypatch):
    requests = [request(number) for number in range(4)]
    params = {"base_url": "$TEACHER_AT/v1", "concurrency": 1, "retries": 2}
    async with ChatServer(says(echo), ["", "", *["500"] * 100]) as server:
        monkeypatch.setenv("TEACHER_AT", server.url.removesuffix("/v1"))
        replies, counters = await with_teacher(server, tmp_path, requests, **params)
        assert [type(reply) for reply in replies] == [Reply] * 2 + [InfrastructureError] * 2
        assert str(replies[2]) == (
            f"teacher r1 gave no answer in 3 attempts; {server.url}/: the last error was 500 "
            "(busy). Replies so far are stored; the same command resumes."
        )
        assert counters["retried_500"] == 4
    async with ChatServer(says(echo)) as moved:  # the same teacher at another address
        monkeypatch.setenv("TEACHER_AT", moved.url.removesuffix("/v1"))
        replies, _ = await with_teacher(moved, tmp_path, requests, **params)
        assert [reply.answer_text for reply in replies] == [f"\\boxed{{{n}}}" for n in range(4)]
        assert [request["seed"] for request in moved.requests] == [2, 3]


@pytest.mark.parametrize(
    ("status", "error", "field"),
    [
        (401, f"Incorrect API key {SECRET}", "key_env = 'TEACHER_KEY'"),
        (403, "not allowed", "key_env = 'TEACHER_KEY'"),
        (404, "The model m does not exist", "model = 'm'"),
        (400, "Unsupported parameter: seed", "extra_body"),
    ],
)
async def test_refusals_name_the_field_and_keep_the_key_secret(tmp_path, status, error, field):
    record = {"error": {"message": error, "code": "x"}}
    async with ChatServer(fixed(status, record)) as server:
        (refusal,), _ = await with_teacher(server, tmp_path, [request()], key_env="TEACHER_KEY")
    assert isinstance(refusal, ConfigError)
    assert f"distill.teachers.r1.{field}" in str(refusal)
    assert error.replace(SECRET, "***") in str(refusal)
    assert SECRET not in str(refusal)
    assert len(server.requests) == 1


async def test_the_key_is_in_no_message_of_a_failure(tmp_path):
    for status, message in ((500, f"{SECRET} crashed me"), (400, f"{SECRET}: reduce the length")):
        record = {"error": {"message": message}}
        async with ChatServer(fixed(status, record)) as server:
            (outcome,), _ = await with_teacher(
                server, tmp_path, [request()], key_env="TEACHER_KEY", retries=0
            )
        assert "***" in str(outcome)
        assert SECRET not in str(outcome)


async def test_an_empty_account_is_not_waited_for(tmp_path):
    record = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    async with ChatServer(fixed(429, record)) as server:
        (refusal,), _ = await with_teacher(server, tmp_path, [request()])
    assert isinstance(refusal, ConfigError)
    assert "has no credit" in str(refusal)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("context_length_exceeded", "This is long."),
        (400, "This model's maximum context length is 256 tokens. However, you requested 300."),
        ("content_filter", "The response was filtered"),
    ],
)
async def test_a_request_that_is_too_long_fails_alone(tmp_path, code, message):
    record = {"error": {"message": message, "code": code}}
    async with ChatServer(fixed(400, record)) as server:
        (reply,), counters = await with_teacher(server, tmp_path, [request()])
    assert (reply.finish, reply.think, reply.answer_text) == ("failed", "", "")
    assert message in reply.failure
    assert (counters["failed"], counters["answered"], counters["requests"]) == (1, 0, 1)


async def test_a_think_prefix_is_continued(tmp_path):
    async with ChatServer(says(lambda body: " 37</think>\\boxed{7}")) as server:
        requests = [
            request(think="a+19b*", close_think=False),
            request(think="a+19", close_think=True),
        ]
        replies, _ = await with_teacher(
            server, tmp_path, requests, continues=True, think_open="<t>", concurrency=1
        )
        (refusal,), _ = await with_teacher(server, tmp_path / "b", requests[:1])
    assert replies[0] == Reply(" 37", "\\boxed{7}", "stop", "", 10, 5)
    for body in server.requests:
        assert body["continue_final_message"] is True
        assert body["add_generation_prompt"] is False
    assert [body["messages"][1] for body in server.requests] == [
        {"role": "assistant", "content": "<t>a+19b*"},
        {"role": "assistant", "content": "<t>a+19</think>"},
    ]
    assert isinstance(refusal, ConfigError)
    assert "distill.teachers.r1.continues" in str(refusal)


def test_backends_that_cannot_work_are_refused_before_anything_is_sent(tmp_path, monkeypatch):
    def opened(**params):
        entry = {"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1", **params}
        return asyncio.run(make_backends({"r1": entry})["r1"].open("r1", DirectoryHost(tmp_path)))

    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for params, words in (
        ({"key_env": "NO_SUCH_KEY"}, r"r1\.key_env = 'NO_SUCH_KEY': is not set"),
        ({"base_url": "http://$NO_SUCH_HOST/v1"}, r"r1\.base_url = .*is no address"),
        ({"base_url": "127.0.0.1:8000"}, r"r1\.base_url"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"extra_body": {"n": 4}}, "extra_body"),
        ({"key": SECRET}, "is not a parameter of openai"),
    ):
        with pytest.raises(ConfigError, match=words):
            opened(**params)


def completion(finish="stop", usage=True, **message):
    record = {"choices": [{"finish_reason": finish, "message": message}]}
    return json.dumps(
        record | ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}} if usage else {})
    )


@pytest.mark.parametrize(
    ("message", "opens", "think", "answer"),
    [
        ({"content": "<think>\nhm\n</think>\n\n4 "}, False, "hm", "4"),
        ({"content": "hm</think>4"}, False, "hm", "4"),  # the template opened the tag
        ({"content": "4"}, False, "", "4"),
        ({"content": "hm"}, True, "hm", ""),  # cut off while it thought
        ({"content": "<think>hm"}, False, "hm", ""),
        ({"content": "4", "reasoning_content": "hm"}, False, "hm", "4"),
        ({"content": "4", "reasoning": "hm", "reasoning_content": None}, True, "hm", "4"),
        ({"content": None, "reasoning": "hm"}, False, "hm", ""),
        ({"content": "x\ud83d"}, False, "", "x?"),
    ],
)
def test_thinking_is_found_in_every_form(message, opens, think, answer):
    reply, counted = read_completion(completion(**message), request(), Tags(starts_open=opens))
    assert (reply.think, reply.answer_text, counted) == (think, answer, True)
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 4)


def test_how_a_completion_ended():
    ended = {
        finish: read_completion(completion(finish, content="x"), request(), Tags())[0].finish
        for finish in ("stop", "length", "content_filter", "eos_token")
    }
    assert ended == {
        "stop": "stop", "length": "length", "content_filter": "failed", "eos_token": "stop"
    }  # fmt: skip
    reply, counted = read_completion(completion(usage=False, content="x"), request(), Tags())
    assert (reply.completion_tokens, counted) == (0, False)


@pytest.mark.parametrize(
    "body",
    [
        "", "<html>", completion(content="hello")[:40], "[]", "{}", '{"choices": []}',
        '{"error": {"message": "overloaded"}}', completion(None, content="x"),
        completion("abort", content="x"), completion(content=["x"]),
    ],
)  # fmt: skip
def test_bodies_that_are_no_answers(body):
    with pytest.raises(BadBodyError):
        read_completion(body, request(), Tags())


async def test_answers_without_usage_are_counted(tmp_path):
    record = json.loads(completion(usage=False, content="x"))
    async with ChatServer(fixed(200, record)) as server:
        _, counters = await with_teacher(server, tmp_path, [request(n) for n in range(3)])
    assert (counters["without_usage"], counters["prompt_tokens"], counters["cost"]) == (3, 0, 0)


async def test_requests_are_spread_over_the_minute(tmp_path):
    async with ChatServer(says(echo)) as server:
        requests = [request(number) for number in range(5)]
        start = time.monotonic()  # the clock of the event loop, which the server uses
        await with_teacher(server, tmp_path, requests, requests_per_minute=600)
    # Number n leaves after n * 0.1 s at the earliest, however slow the way to the server is.
    assert all(at - start > 0.1 * number - 0.01 for number, at in enumerate(sorted(server.times)))
    assert len(server.times) == 5


async def test_an_answer_is_charged_with_the_tokens_it_took(tmp_path):
    requests = [request(number, max_tokens=1000) for number in range(4)]
    async with ChatServer(says(echo)) as server:  # answers of 15 tokens, 1,000 per second
        start = time.monotonic()
        await with_teacher(server, tmp_path, requests, tokens_per_minute=60_000, concurrency=1)
    assert server.times[-1] - start > 0.04
    # Charged with their estimates, 1,000 tokens and more each, they would take 3 s.
    assert server.times[-1] - server.times[0] < 2.5


async def test_unused_tokens_are_refunded():
    limiter = RateLimiter(600)  # 10 per second
    start = time.monotonic()
    await limiter.acquire(100)
    limiter.refund(98)
    await limiter.acquire(1)
    assert 0.19 < time.monotonic() - start < 5  # 10 s without the refund
    limiter.pause(0.3)
    await limiter.acquire(1)
    assert time.monotonic() - start > 0.49


def test_backoff_is_full_jitter(monkeypatch):
    monkeypatch.setattr("bard_ray.distill.rate_limiter.FIRST_BACKOFF_S", 1.0)
    draw = random.Random(0)
    for attempt, longest in ((0, 1), (3, 8), (50, 60)):
        waits = [backoff_s(attempt, draw) for _ in range(2000)]
        assert 0 <= min(waits) < 0.02 * longest
        assert 0.98 * longest < max(waits) <= longest


def test_retry_after_is_read_in_all_its_forms():
    assert retry_after_s({"retry-after": "7"}) == 7
    assert retry_after_s({"retry-after": "1.5", "retry-after-ms": "250"}) == 0.25
    assert retry_after_s({"retry-after": formatdate(time.time() + 30)}) == pytest.approx(30, abs=3)
    assert retry_after_s({"retry-after": formatdate(time.time() - 30)}) == 0
    assert retry_after_s({}) == retry_after_s({"retry-after": "soon"}) == 0


async def test_a_killed_process_pays_again_only_for_requests_in_flight(tmp_path):
    async def answer(path, body):
        await asyncio.sleep(0.06)
        return await says(echo)(path, body)

    async with ChatServer(answer) as server:
        command = [sys.executable, "-m", "tests.request_many", server.url, str(tmp_path), "60"]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
        while server.delivered.total() < 20:
            assert process.returncode is None
            await asyncio.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        (cache,) = tmp_path.iterdir()
        stored = cache.read_bytes().count(b"\n")
        assert 15 <= stored < 60
        second = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
        out, _ = await second.communicate()
    record = json.loads(out)
    assert record["texts"] == [f"\\boxed{{{number}}}" for number in range(60)]
    assert (record["reused"], record["requests"]) == (stored, 60 - stored)
    # Requested twice: only what was in flight, four at most, when the process died.
    assert len(server.requests) - 60 <= 4
    assert sum(count > 1 for count in server.delivered.values()) <= 4
