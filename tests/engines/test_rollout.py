"""A real vLLM engine in a Ray actor: exact log-probs, weight updates, and silent failures."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.cluster.supervise import call
from actors.cluster.wire import unpack_groups
from actors.weights.flat_buffer import read_checkpoint
from bard_ray.config.schema import ChainConfig, RolloutConfig
from bard_ray.data.chain import chain_question
from bard_ray.errors import WeightSyncError
from bard_ray.records import (
    NO_BUDGET,
    Group,
    GroupRequest,
    Message,
    Question,
    Rollout,
    SamplingSpec,
    TokenBudget,
)
from bard_ray.rl.sequences import sampled_versions, sequence_tokens
from tests.engines.conftest import spawn_worker
from tests.engines.sockets import descendants, is_loopback, listeners

pytestmark = [pytest.mark.engines]

LIMIT_S = 120.0
TOLERANCE = 2e-4  # nats, float32 engine against a float32 forward


@pytest.fixture(scope="module")
def worker(cluster, models, student) -> Iterator[object]:
    handle = spawn_worker(
        cluster, "rollout-test", 0, models[0], RolloutConfig(kv_cache_mb=64), student
    )
    asyncio.run(call(handle.start.remote(), LIMIT_S, "start"))
    yield handle
    cluster.kill(handle)


@pytest.fixture(scope="module")
def version() -> Iterator[int]:
    """Weight versions of the shared worker, increasing over the whole module."""
    return iter(range(1, 1000))


def requests(count: int, group: int = 2, budget=NO_BUDGET, first: int = 0) -> list[GroupRequest]:
    questions = [chain_question(ChainConfig(), 0, "eval", i) for i in range(count)]
    return [GroupRequest(first + i, q, (budget,) * group, seed=i) for i, q in enumerate(questions)]


async def sample(handle, work: list[GroupRequest], spec: SamplingSpec) -> list[Group]:
    stream = handle.groups.options(num_returns="streaming").remote()
    by_ticket = {(0, r.number): r for r in work}
    await call(handle.submit.remote(list(by_ticket.items()), spec), LIMIT_S, "submit")
    groups: list[Group] = []
    while len(groups) < len(work):
        item = await call(await call(anext(stream), LIMIT_S, "next"), LIMIT_S, "groups")
        groups += [group for _, group in unpack_groups(item, by_ticket)]
    return sorted(groups, key=lambda g: g.number)


async def load(handle, path: str, version: int) -> None:
    loaded, stall_s = await call(handle.load.remote(path, version), LIMIT_S, "load")
    assert loaded == version
    assert 0 < stall_s < 30


def forward_gap(rollout: Rollout, model_path: str, temperature: float = 1.0) -> float:
    """Largest difference of the engine's log-probs from a Hugging Face forward of `model_path`."""
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    tokens = torch.from_numpy(sequence_tokens(rollout).astype(np.int64))[None]
    with torch.no_grad():
        logprobs = torch.log_softmax(model(tokens).logits[0].double() / temperature, -1)
    taken = logprobs[:-1].gather(1, tokens[0, 1:, None])[:, 0].numpy()
    behavior = np.concatenate([s.logprobs_T for s in rollout.segments])[1:]
    sampled = np.concatenate([s.versions_T for s in rollout.segments])[1:] >= 0
    return float(np.abs(taken - behavior)[sampled].max())


async def test_an_aborted_group_fails_and_the_others_complete(worker):
    work = requests(40, group=4)
    sampling = asyncio.create_task(sample(worker, work, SamplingSpec(max_new_tokens=80)))
    while (await call(worker.stats.remote(), LIMIT_S, "stats"))["running"] < 100:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await call(worker.abort.remote([3, 7, 1000]), LIMIT_S, "abort")
    groups = await sampling
    failed = {g.number for g in groups if g.failure}
    assert failed == {3, 7}
    assert all(len(g.rollouts) == 4 for g in groups if not g.failure)
    assert (await call(worker.stats.remote(), LIMIT_S, "stats"))["running"] == 0


def greedy(model_path: str, prompt: np.ndarray, steps: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    tokens = torch.from_numpy(prompt.astype(np.int64))[None]
    for _ in range(steps):
        with torch.no_grad():
            tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], 1)
    return tokens[0, prompt.size :].tolist()


async def test_behavior_logprobs_are_those_of_the_sampling_distribution(worker, models, version):
    await load(worker, models[0], next(version))
    for temperature in (1.0, 0.7):
        groups = await sample(worker, requests(4), SamplingSpec(temperature, max_new_tokens=30))
        gap = max(forward_gap(r, models[0], temperature) for g in groups for r in g.rollouts)
        assert gap < TOLERANCE


async def test_after_an_update_logprobs_and_greedy_tokens_are_the_new_models(
    worker, models, version
):
    """With tied embeddings the output head silently kept its old values without our fix."""
    for path in (models[1], models[2]):
        await load(worker, path, next(version))
        group = (await sample(worker, requests(1), SamplingSpec(0.0, max_new_tokens=20)))[0]
        rollout = group.rollouts[0]
        completion = sequence_tokens(rollout)[rollout.segments[0].tokens_T.size :]
        expected = greedy(path, rollout.segments[0].tokens_T, completion.size)
        assert completion.tolist() == expected
        sampled = (await sample(worker, requests(3), SamplingSpec(max_new_tokens=30)))[0].rollouts[
            0
        ]
        assert forward_gap(sampled, path) < TOLERANCE


async def test_cached_prefixes_of_old_weights_are_not_used(worker, models, version):
    text = "8a" + "+1b*3c" * 40 + "?"  # long enough for several cache blocks
    question = Question("long", (Message("user", text),), "0", "integer")
    for path in (models[0], models[3]):
        await load(worker, path, next(version))
        for number in range(2):  # the second one hits the cached blocks of the first
            request = GroupRequest(number, question, (NO_BUDGET,), seed=3)
            group = (await sample(worker, [request], SamplingSpec(max_new_tokens=20)))[0]
            assert forward_gap(group.rollouts[0], path) < TOLERANCE


async def test_requests_keep_running_across_an_update_and_every_token_carries_its_version(
    worker, models, version
):
    await load(worker, models[0], before := next(version))
    steps = (await call(worker.stats.remote(), LIMIT_S, "stats"))["steps"]
    running = asyncio.create_task(
        sample(worker, requests(48, group=8), SamplingSpec(max_new_tokens=200))
    )
    while (await call(worker.stats.remote(), LIMIT_S, "stats"))["steps"] < steps + 3:
        pass
    await load(worker, models[1], after := next(version))
    groups = await asyncio.wait_for(running, LIMIT_S)
    versions = [sampled_versions(r) for g in groups for r in g.rollouts]
    assert {int(v) for vs in versions for v in vs} == {before, after}
    assert all((np.diff(vs) >= 0).all() for vs in versions)
    assert any(set(vs.tolist()) == {before, after} for vs in versions), (
        "no request was in flight during the update"
    )


async def test_weights_that_do_not_match_are_refused_before_anything_is_loaded(
    worker, models, version
):
    """vLLM ignores a missing name, and a buffer that is too short leaves it unusable."""
    await load(worker, models[2], next(version))
    good = read_checkpoint(models[3], "float32")
    parts = zip(good.names, good.dtypes, good.shapes, good.offsets, strict=True)
    names, dtypes, shapes, offsets = zip(*list(parts)[:-1], strict=True)
    bad = {
        "missing": replace(good, names=names, dtypes=dtypes, shapes=shapes, offsets=offsets),
        "unknown": replace(good, names=(*names, "other")),
        "cut short": replace(good, buffer=good.buffer[: good.buffer.size // 2]),
        "with shape": replace(good, shapes=((1, 2), *good.shapes[1:])),
    }
    for word, weights in bad.items():
        with pytest.raises(WeightSyncError, match=word):
            await call(worker.update.remote(weights, next(version)), LIMIT_S, "update")
    group = (await sample(worker, requests(1), SamplingSpec(max_new_tokens=20)))[0]
    assert forward_gap(group.rollouts[0], models[2]) < TOLERANCE


async def test_an_older_version_is_refused(worker, models, version):
    await load(worker, models[0], newest := next(version))
    with pytest.raises(WeightSyncError, match="loaded already"):
        await load(worker, models[1], newest - 1)
    again = await call(worker.load.remote(models[0], newest), LIMIT_S, "load")
    assert again == (newest, 0.0), "a version that is loaded is not loaded again"


async def test_budget_forcing_closes_the_thinking_at_the_budget(worker, models, version):
    await load(worker, models[0], next(version))
    spec = SamplingSpec(max_new_tokens=40, force_budget=True, show_budget=False)
    groups = await sample(worker, requests(6, budget=TokenBudget(5)), spec)
    rollouts = [r for g in groups for r in g.rollouts if r.finish != "stop" or r.closed]
    assert rollouts
    for rollout in rollouts:
        assert rollout.thinking_tokens <= 5
        forced = [s for s in rollout.segments if s.role == "forced"]
        assert all(not s.mask_T.any() for s in forced)
    assert any(s.role == "forced" for r in rollouts for s in r.segments)


async def test_many_concurrent_seeded_prompts_are_reproducible(worker, models, version):
    """More prompt tokens than one engine step takes; a split prompt would crash the CPU sampler."""
    text = "8a" + "+1b*3c" * 30 + "?"
    work = [
        GroupRequest(
            i,
            Question(f"q{i}", (Message("user", text + "1" * (i % 3)),), "0"),
            (NO_BUDGET,) * 8,
            seed=i,
        )
        for i in range(24)
    ]
    tokens = []
    for _ in range(2):
        await load(worker, models[0], next(version))
        groups = await sample(worker, work, SamplingSpec(max_new_tokens=8))
        tokens.append([sequence_tokens(r).tolist() for g in groups for r in g.rollouts])
    assert tokens[0] == tokens[1]
    assert len({tuple(t) for t in tokens[0]}) > 100, "rollouts of a group must differ"


async def test_the_worker_has_one_thread_that_waits_passively(worker):
    env = await call(worker.__ray_call__.remote(lambda self: _threads()), LIMIT_S, "threads")
    assert env == {"omp": "1", "policy": "PASSIVE", "torch": 1}


def _threads() -> dict[str, object]:
    import os

    import torch

    return {
        "omp": os.environ["OMP_NUM_THREADS"],
        "policy": os.environ["OMP_WAIT_POLICY"],
        "torch": torch.get_num_threads(),
    }


@pytest.mark.slow
async def test_a_first_prompt_of_one_token_does_not_crash_a_bfloat16_engine(
    cluster, models, student
):
    """On AMX processors bf16 attention crashes if a process's first prompt has 1 to 4 tokens."""
    config = RolloutConfig(dtype="bfloat16", kv_cache_mb=64)
    handle = spawn_worker(cluster, "rollout-bf16", 1, models[0], config, student)
    await call(handle.start.remote(), LIMIT_S, "start")
    # The prompt is the opening think tag alone.
    question = Question("short", (Message("user", ""),), "0", "integer")
    group = (
        await sample(
            handle, [GroupRequest(0, question, (NO_BUDGET,), 1)], SamplingSpec(max_new_tokens=20)
        )
    )[0]
    assert group.rollouts[0].segments[0].tokens_T.size == 1
    assert forward_gap(group.rollouts[0], models[0]) < 0.1
    cluster.kill(handle)


@pytest.mark.slow
async def test_the_multi_process_engine_behaves_like_the_in_process_one(cluster, models, student):
    config = RolloutConfig(engine="async", kv_cache_mb=64)
    handle = spawn_worker(cluster, "rollout-async", 2, models[0], config, student)
    await call(handle.start.remote(), 240.0, "start")
    processes = descendants(os.getpid())  # the cluster, its actors, and the engine's own processes
    assert [found for found in listeners(processes) if not is_loopback(found[2])] == []
    group = (await sample(handle, requests(2), SamplingSpec(max_new_tokens=20)))[0]
    assert forward_gap(group.rollouts[0], models[0]) < TOLERANCE
    running = asyncio.create_task(
        sample(handle, requests(16, group=4, first=10), SamplingSpec(max_new_tokens=200))
    )
    await asyncio.sleep(0.4)
    await load(handle, models[1], 1)
    groups = await asyncio.wait_for(running, LIMIT_S)
    assert {int(v) for g in groups for r in g.rollouts for v in sampled_versions(r)} == {0, 1}
    group = (await sample(handle, requests(2, first=90), SamplingSpec(max_new_tokens=20)))[0]
    assert forward_gap(group.rollouts[0], models[1]) < TOLERANCE
    await call(handle.close.remote(), LIMIT_S, "close")
    cluster.kill(handle)
