"""A teacher behind a sampler: one group per request, texts split at the tags, think prefixes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from actors.cluster.wire import pack_groups, unpack_groups
from actors.rollout.engine import TokenOutput
from actors.rollout.worker import PendingGroups, token_requests
from bard_ray.config.schema import ChainConfig, TinyModelConfig
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.distill.identity import identity
from bard_ray.distill.teacher import EngineSpec, TeacherRequest, make_backends, prompt_format
from bard_ray.distill.teachers.rollout import EngineTeacher
from bard_ray.errors import ConfigError, InfrastructureError
from bard_ray.records import Failure, FailureKind, Finish, Group, Message
from bard_ray.rl.sequences import sequence_tokens

MAX_LEN = 60


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    write_tiny_model(path, TinyModelConfig(), ChainConfig(), seed=0, max_len=MAX_LEN)
    return prompt_format(str(path), EngineSpec(str(path)))


class ScriptedSampler:
    """Samples what `writes` says for a request's seed, through the worker's own code."""

    def __init__(self, prompts, writes=lambda seed: "a1</think>2", fails=None, hold=None):
        self.prompts, self.writes, self.fails, self.hold = prompts, writes, fails, hold
        self.calls, self.prompt_texts, self.groups = [], [], []
        self.running = self.most_running = 0

    async def sample(self, requests, spec):
        self.calls.append((spec, [request.seed for request in requests]))
        self.running += len(requests)
        self.most_running = max(self.most_running, self.running)
        if self.hold is not None:
            await self.hold.wait()
        for request in reversed(requests):
            await asyncio.sleep(0.001)
            self.running -= 1
            yield self._group(request, spec)

    def _group(self, request, spec):
        if self.fails:
            if isinstance(self.fails, Exception):
                raise self.fails
            return Group(request, failure=self.fails)
        (item,) = token_requests(request, spec, self.prompts, MAX_LEN, "n")
        self.prompt_texts.append(self.prompts.decode(item.prompt_T))
        ((ids_T, _),) = self.prompts.token_ends([self.writes(request.seed)])
        whole = np.append(ids_T, np.int32(self.prompts.eos_id))
        kept_T = whole[: item.max_new_tokens]
        finish: Finish = "stop" if kept_T.size == whole.size else "length"
        zeros_T = np.zeros(kept_T.size, np.int32)
        output = TokenOutput(kept_T, zeros_T.astype(np.float32), zeros_T, finish, id=item.id)
        filling = PendingGroups(self.prompts, spec)
        filling.expect((0, 0), request, [item])
        full = filling.add(output)
        assert full is not None
        [(_, group)] = unpack_groups(pack_groups([full]), {(0, 0): request})
        self.groups.append(group)
        return group


def request(seed=0, text="8a+1?", max_tokens=40, temperature=0.6, **given):
    return TeacherRequest((Message("user", text),), max_tokens, temperature, seed, **given)


def teacher_of(sampler, in_flight=100):
    return EngineTeacher("t", sampler, sampler.prompts, in_flight)


async def test_each_request_is_sampled_with_its_own_seed_and_temperature(prompts):
    sampler = ScriptedSampler(prompts, lambda seed: f"a{seed}</think>{seed}")
    teacher = teacher_of(sampler)
    requests = [request(seed, temperature=0.0 if seed % 3 == 0 else 0.6) for seed in range(9)]
    replies = await asyncio.gather(*map(teacher.reply, requests))
    assert [(r.think, r.answer_text) for r in replies] == [(f"a{s}", str(s)) for s in range(9)]
    sent = {seed: spec.temperature for spec, seeds in sampler.calls for seed in seeds}
    assert sent == {seed: 0.0 if seed % 3 == 0 else 0.6 for seed in range(9)}
    assert teacher.counters()["requests"] == 9


async def test_the_number_of_requests_in_flight_is_bounded(prompts):
    sampler = ScriptedSampler(prompts)
    teacher = teacher_of(sampler, in_flight=3)
    replies = await asyncio.gather(*(teacher.reply(request(seed)) for seed in range(10)))
    assert all(r.finish == "stop" for r in replies)
    assert sampler.most_running == 3


async def test_a_reply_is_split_at_the_tags_and_says_how_it_finished(prompts):
    sampler = ScriptedSampler(prompts, lambda seed: ["a9b7</think>7", "a9b7c8"][seed])
    teacher = teacher_of(sampler)
    whole, cut, endless = await asyncio.gather(
        teacher.reply(request(0)),
        teacher.reply(request(0, max_tokens=3)),
        teacher.reply(request(1)),
    )
    assert (whole.think, whole.answer_text, whole.finish) == ("a9b7", "7", "stop")
    assert (cut.think, cut.answer_text, cut.finish) == ("a9b", "", "length")
    assert (endless.think, endless.answer_text, endless.finish) == ("a9b7c8", "", "stop")
    assert (whole.prompt_tokens, whole.completion_tokens) == (5, 7)
    assert teacher.counters() == {
        "requests": 3,
        "failed": 0,
        "cut_off": 1,
        "prompt_tokens": 15,
        "completion_tokens": 7 + 3 + 7,
    }


async def test_a_think_prefix_is_continued_and_not_repeated(prompts):
    sampler = ScriptedSampler(prompts, lambda seed: "b7</think>7")
    reply = await teacher_of(sampler).reply(request(think="a9"))
    assert sampler.prompt_texts == ["8a+1?<think>a9"]
    assert (reply.think, reply.answer_text) == ("b7", "7")
    (rollout,) = sampler.groups[0].rollouts
    assert [s.role for s in rollout.segments] == ["prompt", "forced", "think", "answer"]
    assert [bool(s.mask_T.all()) for s in rollout.segments] == [False, False, True, True]
    assert (rollout.thinking_tokens, rollout.closed) == (4, True)
    assert prompts.decode(sequence_tokens(rollout)) == "8a+1?<think>a9b7</think>7"


@pytest.mark.parametrize(("given", "forced"), [("a9b7", 5), ("", 1)])
async def test_a_closed_think_prefix_is_followed_by_the_answer(prompts, given, forced):
    sampler = ScriptedSampler(prompts, lambda seed: "7")
    reply = await teacher_of(sampler).reply(request(think=given, close_think=True))
    assert sampler.prompt_texts == [f"8a+1?<think>{given}</think>"]
    assert (reply.think, reply.answer_text, reply.finish) == ("", "7", "stop")
    (rollout,) = sampler.groups[0].rollouts
    sizes = [(s.role, s.tokens_T.size) for s in rollout.segments[1:]]
    assert sizes == [("forced", forced), ("answer", 2)]
    assert (reply.prompt_tokens, reply.completion_tokens) == (5 + forced, 2)


async def test_a_request_that_no_retry_would_help_is_a_failed_reply(prompts):
    failure = Failure(FailureKind.NO_ROOM, "its prompt leaves no room")
    teacher = teacher_of(ScriptedSampler(prompts, fails=failure))
    reply = await teacher.reply(request())
    assert (reply.finish, reply.failure) == ("failed", "its prompt leaves no room")
    alone = await teacher.reply(TeacherRequest((Message("system", "Be brief."),), 10))
    assert (alone.finish, alone.failure) == ("failed", "it has no message of a user")
    assert teacher.counters()["failed"] == 2


@pytest.mark.parametrize(
    "fails", [Failure(FailureKind.WORKER_LOST, "lost 3 times"), InfrastructureError("x")]
)
async def test_a_lost_engine_raises_in_every_request_and_is_never_a_reply(prompts, fails):
    teacher = teacher_of(ScriptedSampler(prompts, fails=fails), in_flight=2)
    replies = await asyncio.gather(
        *(teacher.reply(request(seed)) for seed in range(5)), return_exceptions=True
    )
    assert [type(reply) for reply in replies] == [InfrastructureError] * 5


async def test_a_canceled_request_makes_room_for_the_next_one(prompts):
    hold = asyncio.Event()
    teacher = teacher_of(ScriptedSampler(prompts, hold=hold), in_flight=1)
    first = asyncio.create_task(teacher.reply(request(0)))
    second = asyncio.create_task(teacher.reply(request(1)))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    hold.set()
    assert (await asyncio.wait_for(second, 5)).finish == "stop"


def test_speed_parameters_are_not_fingerprinted():
    entry = {"backend": "rollout", "model": "m", "gpus": 2, "tensor_parallel": 2}
    backends = make_backends({"a": entry, "b": {**entry, "workers": 4, "in_flight": 9}})
    assert identity(backends["a"]) == identity(backends["b"])
    longer = make_backends({"c": {**entry, "max_len": 64}})["c"]
    assert identity(backends["a"]) != identity(longer)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tensor_parallel": 2}, "gpus must be 2 or more"),
        ({"cpus": 0.0}, "cpus must be above 0"),
        ({"dtype": "int8"}, "dtype must be float32 or bfloat16"),
        ({"device": "cpu"}, "is not a parameter of rollout"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(change, says):
    with pytest.raises(ConfigError, match=says):
        make_backends({"a": {"backend": "rollout", "model": "m", **change}})


def test_a_model_without_such_tags_is_refused_by_its_own_name(prompts):
    path = prompts.tokenizer.name_or_path
    with pytest.raises(ConfigError, match="teacher's tokenizer") as caught:
        prompt_format(path, EngineSpec(path, think_close="</thought>"))
    assert caught.value.field == "distill.teachers"
    assert Path(str(caught.value.value)).name == Path(path).name
