"""vLLM's own OpenAI-compatible server, behind a proxy that goes wrong, as teacher and as writer."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from actors.cluster.env import actor_env, engine_env
from bard_ray.config.schema import ChainConfig
from bard_ray.data.chain import chain_question
from bard_ray.distill.teacher import TeacherRequest, make_backends
from bard_ray.errors import ConfigError
from bard_ray.records import Message
from tests.chat_server import ChatServer, DirectoryHost, forward
from tests.engines.conftest import MAX_LEN

FAULTS = ["429", "reset", "", "reset_middle", "500", "truncated", "", "503"]
START_LIMIT_S = 200


def command(model: str, port: int) -> list[str]:
    where = [
        "--model",
        model,
        "--served-model-name",
        "tiny",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    size = ["--max-model-len", str(MAX_LEN), "--max-num-seqs", "16", "--block-size", "32"]
    # float32: on CPUs with AMX bf16 crashes on first prompts of fewer than five tokens.
    how = ["--dtype", "float32", "--enforce-eager", "--kv-cache-memory-bytes", str(64 << 20)]
    rest = ["--generation-config", "vllm", "--uvicorn-log-level", "error"]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *where, *size, *how, *rest]


@pytest.fixture(scope="module")
def port(models, tmp_path_factory):
    """A server of the tiny model; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    env = os.environ | actor_env(threads=1, verbose=False, extra=engine_env(on_gpu=False))
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command(models[0], number), env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _wait(process, number, log)
        yield number
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _wait(process, port, log):
    give_up = time.monotonic() + START_LIMIT_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            opener.open(f"http://127.0.0.1:{port}/health", timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"no server within {START_LIMIT_S} s: {log.read_text()[-2000:]}")


def requests():
    """Chains wanted, several a question; rewriting; a thought to be closed; one to go on with."""
    wanted = []
    for number in range(6):
        question = chain_question(ChainConfig(), 0, "train", number)
        wanted += [TeacherRequest(question.messages, 40, 1.0, seed, question) for seed in (1, 2)]
        turns = (
            *question.messages,
            Message("assistant", "<think>a+19b*37</think>\\boxed{7}"),
            Message("user", "b?"),
        )
        wanted.append(TeacherRequest(turns, 12, 1.0, number, question))
    thought = "a+19b*37"
    wanted.append(TeacherRequest(question.messages, 8, 1.0, 3, question, thought, close_think=True))
    wanted.append(TeacherRequest(question.messages, 8, 1.0, 3, question, thought))
    return wanted


def prompt_tokens(request):
    """The tiny template: every token of the turns, eos behind the assistant's, one open tag."""
    turns = 2 * len(request.question.meta["ops"]) + 2
    turns += 14 if len(request.messages) > 1 else 0  # <think>, 6, </think>, 3, eos; b and ?
    return turns + 1 + (6 if request.think else 0) + request.close_think


async def request_all(url, directory, wanted, **params):
    entry = {"backend": "openai", "model": "tiny", "base_url": url, "starts_in_thought": True}
    backends = make_backends({"t": entry | {"continues": True, "timeout_s": 60.0} | params})
    teacher = await backends["t"].open("t", DirectoryHost(directory))
    try:
        return await asyncio.gather(*map(teacher.reply, wanted)), teacher.counters()
    finally:
        await teacher.close()


@pytest.mark.engines
@pytest.mark.slow
async def test_vllms_server_serves_teacher_and_writer_through_faults(port, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("bard_ray.distill.rate_limiter.FIRST_BACKOFF_S", 0.05)
    wanted = requests()
    async with ChatServer(forward(port), FAULTS) as proxy:
        replies, counters = await request_all(proxy.url, tmp_path / "a", wanted, concurrency=4)
        assert sorted(proxy.delivered.values()) == [1] * len(wanted) == [1] * 20
        assert sum(proxy.lost.values()) == 2
        assert (counters["requests"], counters["http_requests"]) == (20, 26)
        assert counters["without_usage"] == 0
        again, reused = await request_all(proxy.url, tmp_path / "a", wanted)
        assert again == replies
        assert (reused["reused"], reused["requests"]) == (20, 0)
    for request, reply in zip(wanted, replies, strict=True):
        assert reply.finish in ("stop", "length")
        assert (reply.finish == "length") == (reply.completion_tokens == request.max_tokens)
        # The server reads turns and think prefix unchanged, and no second open tag.
        assert reply.prompt_tokens == prompt_tokens(request)
    assert counters["prompt_tokens"] == sum(map(prompt_tokens, wanted))
    assert replies[-2].think == ""
    # Two seeds give two chains; the same seeds without faults give the same chains.
    assert all(replies[i].think != replies[i + 1].think for i in range(0, 18, 3))
    # (All but one at most: other neighbors in the batch may change the last bit of a logit.)
    direct, _ = await request_all(
        f"http://127.0.0.1:{port}/v1", tmp_path / "b", wanted, concurrency=1
    )
    assert sum(one == other for one, other in zip(direct, replies, strict=True)) >= 19
    await _refusals(port, tmp_path)


async def _refusals(port, directory):
    url = f"http://127.0.0.1:{port}/v1"
    long = TeacherRequest((Message("user", "8a+1?" * 100),), 8)
    ((reply,), _) = await request_all(
        url,
        directory / "c",
        [
            long,
        ],
    )
    assert reply.finish == "failed"
    assert "maximum context length is 256 tokens" in reply.failure
    with pytest.raises(ConfigError, match=r"distill\.teachers\.t\.model = 'other'"):
        await request_all(url, directory / "d", requests()[:1], model="other")
