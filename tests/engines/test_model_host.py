"""Models served beside the roles of a run: a teacher's texts are those of its weights, the
student's pass rates do not depend on the chunks, log-probs are those of a forward pass, and
resources come back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.placement.model_host import ModelHost
from bard_ray.config.schema import ChainConfig, Config, ReferenceConfig, RunConfig, StudentConfig
from bard_ray.data.chain import chain_of, chain_question, gold_think
from bard_ray.data.prompt import load_prompt_format
from bard_ray.distill.filter import Candidate
from bard_ray.distill.step import STEPS, StepTools
from bard_ray.distill.teacher import EngineSpec, TeacherRequest, make_backends
from bard_ray.distill.teachers.rollout import EngineTeacher
from bard_ray.errors import ConfigError, InfrastructureError, ResourceError
from bard_ray.records import Message, Outcome, Verdict
from tests.engines.conftest import MAX_LEN

pytestmark = [pytest.mark.engines]

QUESTIONS = [chain_question(ChainConfig(), 0, "eval", i) for i in range(24)]
NO_TOKENS = np.zeros(0, np.int32)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """The host's clients live in one event loop."""
    with asyncio.Runner() as kept:
        yield kept


@dataclass
class EngineHost:
    """What a backend is given."""

    models: ModelHost
    replies: Path
    seed: int = 0

    async def engines(self, spec):
        return await self.models.engines(spec)


@pytest.fixture(scope="module")
def host(cluster, runner, tmp_path_factory) -> Iterator[EngineHost]:
    models = ModelHost(
        cluster, Config(run=RunConfig(seed=3), reference=ReferenceConfig(precision="float32"))
    )
    yield EngineHost(models, tmp_path_factory.mktemp("replies"))
    runner.run(models.close())


@pytest.fixture(scope="module")
def backend(models):
    """A small share of a CPU will do."""
    entry = {"backend": "rollout", "model": models[1], "cpus": 0.25, "max_len": MAX_LEN}
    entry |= {"dtype": "float32", "kv_cache_mb": 64}
    return make_backends({"t": entry})["t"]


@pytest.fixture(scope="module")
def teacher(host, runner, backend):
    teacher = runner.run(backend.open("t", host))
    yield teacher
    runner.run(teacher.close())


@pytest.fixture(scope="module")
def prompts(models):
    return load_prompt_format(models[1], StudentConfig(), "sentence")


def greedy(model_path: str, prompt: str, prompts, most: int) -> str:
    """What transformers writes behind a prompt, end token left out."""
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    ((ids_T, _),) = prompts.token_ends([prompt])
    tokens = torch.from_numpy(ids_T.astype(np.int64))[None]
    with torch.no_grad():
        out = model.generate(
            tokens, max_new_tokens=most, do_sample=False, attention_mask=torch.ones_like(tokens)
        )
    return prompts.decode(out[0, tokens.shape[1] :].tolist())


def test_replies_are_the_models_own_with_and_without_a_think_prefix(
    teacher, runner, models, prompts
):
    texts = ["8a+1b*3?", "1a*3?", "5a+1b+1c*3?"]
    given: list[dict[str, Any]] = [{}, {"think": "a9b"}, {"think": "a9b7", "close_think": True}]
    requests = [
        TeacherRequest((Message("user", text),), most, 0.0, **how)
        for text in texts
        for how in given
        for most in (5, 30)
    ]

    async def all_at_once():
        return await asyncio.gather(*map(teacher.reply, requests))

    replies = runner.run(all_at_once())
    starts = {None: "<think>", "a9b": "<think>a9b", "a9b7": "<think>a9b7</think>"}
    for request, reply in zip(requests, replies, strict=True):
        prompt = request.messages[0].content + starts[request.think]
        expected = greedy(models[1], prompt, prompts, request.max_tokens)
        if request.close_think:
            assert (reply.think, reply.answer_text) == ("", expected)
        else:
            assert (reply.think, reply.answer_text) == expected.partition("</think>")[::2]
        assert reply.completion_tokens <= request.max_tokens
        assert reply.completion_tokens == request.max_tokens or reply.finish == "stop"


def test_a_seed_is_a_sample_and_requests_of_all_kinds_run_together(teacher, runner):
    requests = [
        TeacherRequest(QUESTIONS[0].messages, 20 + seed % 3, 0.5 + seed % 2, seed)
        for seed in range(12)
    ]

    async def all_at_once(requests):
        return await asyncio.gather(*map(teacher.reply, requests))

    forwards = runner.run(all_at_once(requests))
    backwards = runner.run(all_at_once(requests[::-1]))[::-1]
    assert forwards == backwards
    assert len({reply.think for reply in forwards}) > 6
    long = TeacherRequest((Message("user", "1" * MAX_LEN),), 5)
    assert runner.run(teacher.reply(long)).failure.startswith("its prompt leaves no room")


class OddLengths:
    """A model with random weights is never right, so answers of odd length count as right."""

    async def grade(self, items):
        outcomes = [Outcome.CORRECT if len(i.text) % 2 else Outcome.WRONG for i in items]
        return [Verdict(outcome) for outcome in outcomes]


def tools_of(host, prompts, sampler):
    async def student():
        return sampler

    async def verifier():
        return OddLengths()

    async def reference(path):
        return await host.models.reference(path or prompts.tokenizer.name_or_path)

    nothing: dict[str, Any] = dict.fromkeys(("train_budgets", "context", "teacher", "teacher_name"))
    return StepTools(
        seed=5, prompts=prompts, student=student, verifier=verifier, reference=reference, **nothing
    )


def test_pass_rates_of_the_real_engine_do_not_depend_on_the_chunks(host, backend, runner, prompts):
    sampler, _ = runner.run(host.engines(backend.spec))  # those the teacher has
    tools = tools_of(host, prompts, sampler)
    step = STEPS.build("sample_student", {"samples": 8, "max_new_tokens": 60, "temperature": 1.0})
    records = [Candidate(question, "", "", NO_TOKENS) for question in QUESTIONS]
    at_once = runner.run(step.run(records, tools))
    parts = [
        runner.run(step.run(part, tools)) for part in (records[17:], records[:5], records[5:17])
    ]
    rates = [record.pass_rate for record, _ in at_once]
    assert [r.pass_rate for r, _ in [*parts[1], *parts[2], *parts[0]]] == rates
    assert all(reason == "" for _, reason in at_once)
    assert len(set(rates)) > 3


def test_likelihoods_are_those_of_a_forward_pass(host, runner, models, prompts):
    tools = tools_of(host, prompts, None)
    records = []
    for question in QUESTIONS[:4]:
        think = gold_think(chain_of(question))
        ((tokens_T, _),) = prompts.token_ends([think])
        records.append(Candidate(question, think, question.answer, tokens_T))
    step = STEPS.build("likelihoods", {"teacher": models[2], "boundary": "(?=[a-z])"})
    results = runner.run(step.run(records, tools))
    for record, _ in results:
        assert len(record.sentence_ends) == len(chain_of(record.question).ops)
        for path, found_T in (
            (models[1], record.student_logprobs_T),
            (models[2], record.teacher_logprobs_T),
        ):
            expected_T = _forward(path, record, prompts)
            assert np.abs(found_T - expected_T).max() < 2e-4


def _forward(path, record, prompts):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ((prompt_T, _),) = prompts.token_ends([record.question.messages[0].content + "<think>"])
    ids = torch.from_numpy(np.concatenate([prompt_T, record.tokens_T]).astype(np.int64))[None]
    with torch.no_grad():
        logprobs = torch.log_softmax(model(ids).logits[0], -1)
    taken = logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0].numpy()
    return taken[prompt_T.size - 1 :]


def test_a_lost_worker_is_replaced_and_its_request_sent_again(host, backend, teacher, runner):
    import ray

    sampler, host_prompts = runner.run(host.engines(backend.spec))
    request = TeacherRequest(QUESTIONS[0].messages, 30, 1.0, seed=8)
    uncached = EngineTeacher("again", sampler, host_prompts, 4)
    before = runner.run(uncached.reply(request))
    ray.kill(sampler._fleet.slots[0].handle)
    assert runner.run(uncached.reply(request)) == before
    assert sampler.replaced == 1


def test_a_cluster_that_is_too_small_is_an_error_with_the_fields_to_lower(host, runner, models):
    spec = EngineSpec(models[1], workers=2, cpus=50.0)
    with pytest.raises(ResourceError, match=r"100 CPU.*2 x 50 CPU.*lower workers, cpus or gpus"):
        runner.run(host.engines(spec))
    with pytest.raises(ConfigError, match=r"distill\.teachers = 'no/model'"):
        runner.run(host.engines(EngineSpec("no/model")))


def test_a_closed_host_gives_its_resources_back(runner, host, teacher):
    """Last, since it closes what the others use."""
    import ray

    before = ray.available_resources()["CPU"]
    runner.run(host.models.close())
    give_up = time.monotonic() + 20
    while ray.available_resources()["CPU"] < before + 0.25 and time.monotonic() < give_up:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] >= before + 0.25
    with pytest.raises(InfrastructureError, match="stopped"):
        runner.run(teacher.reply(TeacherRequest((Message("user", "8a+1?"),), 5)))
