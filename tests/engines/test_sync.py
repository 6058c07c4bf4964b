"""Weights from a real learner group to a real engine.

The engine gets exactly the learner's weights, no step sees a partial update, and a failed transfer
leaves the engine unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.cluster.env import learner_env
from actors.cluster.ray_cluster import ActorSpec
from actors.cluster.supervise import call
from actors.learner.client import RayLearner
from actors.weights.flat_buffer import read_checkpoint
from bard_ray.config.schema import ChainConfig, LearnerConfig, RolloutConfig, TinyModelConfig
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.errors import InfrastructureError
from bard_ray.learn.spec import LossSpec, OptimSpec
from bard_ray.records import Rollout, SamplingSpec, TrainSequence
from bard_ray.rl.sequences import sequence_tokens
from tests.engines.conftest import MAX_LEN, spawn_worker
from tests.engines.test_rollout import (
    LIMIT_S,
    TOLERANCE,
    forward_gap,
    greedy,
    load,
    requests,
    sample,
)

pytestmark = [pytest.mark.engines]

FIRST_BUNDLE = 4


@pytest.fixture(scope="module")
def worker(cluster, models, student) -> Iterator[object]:
    handle = spawn_worker(
        cluster, "rollout-sync", 3, models[0], RolloutConfig(kv_cache_mb=64), student
    )
    asyncio.run(call(handle.start.remote(), LIMIT_S, "start"))
    yield handle
    cluster.kill(handle)


def corpus(seed: int) -> list[TrainSequence]:
    generator = np.random.default_rng(seed)
    tokens = [generator.integers(3, 60, size=n).astype(np.int32) for n in (20, 31, 44)]
    return [TrainSequence(t, np.arange(t.size) > 5) for t in tokens]


@pytest.mark.parametrize(("stage", "ranks"), [(0, 1), (2, 2), (3, 2)])
async def test_greedy_output_after_a_transfer_is_the_learners_own(
    cluster, worker, models, tmp_path, stage, ranks
):
    from actors.learner.actor import LearnerActor

    config = LearnerConfig(ranks=ranks, zero_stage=stage, pack_len=MAX_LEN)
    env = learner_env(on_gpu=False, loopback=True)
    actors = [
        cluster.spawn(
            LearnerActor,
            ActorSpec(f"learner-z{stage}-{rank}", FIRST_BUNDLE + rank, 1.0, 0.0, env=env),
            rank, ranks, config, 0, True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    learner = RayLearner(actors, config, "float32")
    await learner.start()
    await learner.begin(models[0], OptimSpec())
    for step in range(2):
        await learner.step(corpus(step), LossSpec("nll"), lr=3e-3)
    published = await learner.publish()
    version = 10 * (stage + 1)
    loaded, _ = await call(worker.update.remote(published.handle, version), LIMIT_S, "update")
    assert loaded == version
    await learner.export(str(tmp_path / "own"))

    group = (await sample(worker, requests(1), SamplingSpec(0.0, max_new_tokens=20)))[0]
    rollout = group.rollouts[0]
    prompt = rollout.segments[0].tokens_T
    completion = sequence_tokens(rollout)[prompt.size :]
    assert completion.tolist() == greedy(str(tmp_path / "own"), prompt, completion.size)
    sampled = (await sample(worker, requests(2), SamplingSpec(max_new_tokens=30)))[0].rollouts[0]
    assert forward_gap(sampled, str(tmp_path / "own")) < TOLERANCE
    assert forward_gap(sampled, models[0]) > 10 * TOLERANCE, "training changed nothing"
    for actor in actors:
        cluster.kill(actor)


@pytest.fixture
def started(cluster, student) -> Iterator[Callable[..., Awaitable[object]]]:
    """Starts a worker for one test; it is killed afterward."""
    handles = []

    async def start(model: str, **settings: Any) -> object:
        config = RolloutConfig(kv_cache_mb=64, **settings)
        handles.append(spawn_worker(cluster, "rollout-own", 6, model, config, student))
        await call(handles[-1].start.remote(), LIMIT_S, "start")
        return handles[-1]

    yield start
    for handle in handles:
        cluster.kill(handle)


def write_untied(path: Path, seed: int) -> str:
    """A tiny model with an untied output head."""
    write_tiny_model(path, TinyModelConfig(init_std=0.15), ChainConfig(), seed, MAX_LEN)
    model = AutoModelForCausalLM.from_pretrained(path, tie_word_embeddings=False)
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.lm_head.weight, std=0.15)
    model.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def untied(tmp_path_factory) -> list[str]:
    root = tmp_path_factory.mktemp("untied")
    return [write_untied(root / f"m{seed}", seed) for seed in range(3)]


def gaps(rollouts: list[Rollout], paths: list[str]) -> list[float]:
    """Largest difference between engine and forward, by version.

    Version v stands for the weights in `paths[v]`, applied to the whole sequence.
    """
    worst = [0.0] * len(paths)
    for version, path in enumerate(paths):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        for rollout in rollouts:
            tokens = torch.from_numpy(sequence_tokens(rollout).astype(np.int64))[None]
            with torch.no_grad():
                logprobs = torch.log_softmax(model(tokens).logits[0].double(), -1)
            taken = logprobs[:-1].gather(1, tokens[0, 1:, None])[:, 0].numpy()
            behavior = np.concatenate([s.logprobs_T for s in rollout.segments])[1:]
            versions = np.concatenate([s.versions_T for s in rollout.segments])[1:]
            here = np.abs(taken - behavior)[versions == version]
            worst[version] = max(worst[version], float(here.max(initial=0.0)))
    return worst


async def rollouts_across_updates(handle, paths: list[str]) -> list[Rollout]:
    """Rollouts of 96 requests that run while the weights change from `paths[0]` to the last one."""
    running = asyncio.create_task(
        sample(handle, requests(24, group=4), SamplingSpec(max_new_tokens=220))
    )
    for version, path in enumerate(paths[1:], 1):
        steps = (await call(handle.stats.remote(), LIMIT_S, "stats"))["steps"]
        while (await call(handle.stats.remote(), LIMIT_S, "stats"))["steps"] < steps + 8:
            pass
        await load(handle, path, version)
    groups = await asyncio.wait_for(running, LIMIT_S)
    return [r for group in groups for r in group.rollouts]


@pytest.mark.parametrize(
    ("how", "dtype", "tied", "tolerance"),
    [
        ("background", "float32", True, TOLERANCE),
        ("background", "float32", False, TOLERANCE),
        pytest.param("background", "bfloat16", True, 0.4, marks=pytest.mark.slow),
        pytest.param("background", "bfloat16", False, 0.4, marks=pytest.mark.slow),
        ("in_place", "float32", True, TOLERANCE),
    ],
)
async def test_every_token_is_sampled_by_the_complete_weights_of_its_version(
    started, models, untied, how, dtype, tied, tolerance
):
    """After a partial update, or with a version off by one token, gaps would be whole nats."""
    paths = models[:3] if tied else untied
    handle = await started(paths[0], dtype=dtype, weight_load=how, kv_after_update="recompute")
    rollouts = await rollouts_across_updates(handle, paths)
    versions = [
        np.concatenate([s.versions_T for s in r.segments if s.mask_T.any()]) for r in rollouts
    ]
    assert {int(v) for vs in versions for v in vs} == {0, 1, 2}
    assert all((np.diff(vs) >= 0).all() for vs in versions), "versions never decrease"
    assert sum(len(set(vs.tolist())) > 1 for vs in versions) >= 20, "too few ran across an update"
    assert max(gaps(rollouts, paths)) < tolerance
    assert max(gaps(rollouts, paths[1:] + paths[:1])) > 10 * tolerance, "the models are too alike"


@pytest.mark.slow
async def test_kept_caches_make_later_tokens_differ_from_a_pure_forward(started, models):
    """With `kv_after_update=keep` requests continue on keys and values of both versions."""
    handle = await started(models[0])
    rollouts = await rollouts_across_updates(handle, models[:2])
    old, new = gaps(rollouts, models[:2])
    assert old < TOLERANCE
    assert new > 10 * TOLERANCE


def own_memory_mb(_: object) -> float:
    """Memory of the process in MB, without memory shared with the object store."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1e3


@pytest.mark.slow
async def test_updates_do_not_leak_memory(started, tmp_path):
    """Ten more updates of 30 MB each; leaking each of them would add 300 MB."""
    tiny = TinyModelConfig(layers=3, hidden=512, heads=8, mlp=1024)
    write_tiny_model(tmp_path, tiny, ChainConfig(), 0, MAX_LEN)
    handle = await started(str(tmp_path), weight_load="background")
    weights = read_checkpoint(str(tmp_path), "float32")
    assert 30e6 < weights.buffer.nbytes < 33e6
    sizes = []
    for version in range(1, 15):
        await call(handle.update.remote(weights, version), LIMIT_S, "update")
        await sample(handle, requests(2), SamplingSpec(max_new_tokens=4))
        if version in (4, 14):
            sizes.append(await call(handle.__ray_call__.remote(own_memory_mb), LIMIT_S, "memory"))
    assert sizes[1] - sizes[0] < 60


async def test_weights_that_cannot_be_prepared_leave_the_old_ones_in_use(started, models):
    handle = await started(models[0], weight_load="background")
    good = read_checkpoint(models[1], "float32")
    # Names, shapes and size match, but a tensor cannot start in the middle of a number.
    bad = replace(good, offsets=(*good.offsets[:-1], good.offsets[-1] - 3))
    running = asyncio.create_task(
        sample(handle, requests(4, group=8), SamplingSpec(max_new_tokens=100))
    )
    with pytest.raises(InfrastructureError, match="version 0 stays"):
        await call(handle.update.remote(bad, 1), LIMIT_S, "update")
    rollouts = [r for group in await running for r in group.rollouts]
    assert max(forward_gap(r, models[0]) for r in rollouts[:8]) < TOLERANCE
    await call(handle.update.remote(good, 1), LIMIT_S, "update")
    group = (await sample(handle, requests(1), SamplingSpec(max_new_tokens=20)))[0]
    assert forward_gap(group.rollouts[0], models[1]) < TOLERANCE


def refusals(self, other: str) -> list[str]:
    """Results of planning background loading for several models; runs in the worker."""
    from actors.weights.cpu_double_buffer import UnsupportedModelError, plan_weight_swap
    from actors.weights.flat_buffer import checkpoint_tensors

    [model] = self._engine._engine.apply_model(lambda model: model)
    own, wrong = checkpoint_tensors(self._model_path), checkpoint_tensors(other)
    results = []

    def attempt(tensors) -> None:
        try:
            plan_weight_swap(model, tensors)
        except UnsupportedModelError as error:
            results.append(str(error))
        else:
            results.append("accepted")

    attempt(own)
    attempt(wrong)
    attempt({name: t for name, t in own.items() if "layers.1.mlp.up_proj" not in name})
    model.extra = torch.nn.Linear(4, 4)
    attempt(own)
    del model.extra
    attempt(own)
    return results


async def test_background_loading_is_verified_and_refused_where_it_is_not_exact(started, models):
    handle = await started(models[0])
    results = await call(handle.__ray_call__.remote(refusals, models[1]), LIMIT_S, "refusals")
    assert results[0] == results[4] == "accepted"
    assert "differs" in results[1], "weights other than the loaded ones must not pass"
    assert results[2] != "accepted"
    assert results[3] == "extra is a Linear, ['bias', 'weight'] not in the checkpoint"


def peak_gathered(self, bucket: int) -> tuple[int, int]:
    """Most elements gathered at a time, and those of the largest parameter; runs in a rank."""
    from actors.learner import deepspeed_engine

    weights, deepspeed_engine.BUCKET_ELEMENTS = self._weights(), bucket
    split = [p for _, p in weights if p.ds_status.name == "NOT_AVAILABLE"]
    peak = 0
    for _ in deepspeed_engine.gathered(weights):
        whole = [p for p in split if p.ds_status.name == "AVAILABLE"]
        peak = max(peak, sum(p.ds_numel for p in whole))
    assert len(split) > 20
    assert all(p.ds_status.name == "NOT_AVAILABLE" for p in split)
    return peak, max(p.ds_numel for p in split)


async def test_a_partitioned_model_is_gathered_in_buckets(cluster, tmp_path):
    from actors.learner.actor import LearnerActor

    tiny = TinyModelConfig(layers=4, hidden=384, heads=6, mlp=768)
    write_tiny_model(tmp_path, tiny, ChainConfig(), 0, MAX_LEN)
    config = LearnerConfig(zero_stage=3, pack_len=MAX_LEN)
    env = learner_env(on_gpu=False, loopback=True)
    spec = ActorSpec("learner-bucket", FIRST_BUNDLE, 1.0, 0.0, env=env)
    handle = cluster.spawn(LearnerActor, spec, 0, 1, config, 0, True)
    learner = RayLearner([handle], config, "float32")
    await learner.start()
    await learner.begin(str(tmp_path), OptimSpec())
    peak, largest = await call(
        handle.__ray_call__.remote(peak_gathered, 700_000), LIMIT_S, "gather"
    )
    assert largest == 384 * 768
    assert largest < peak <= 700_000
    cluster.kill(handle)
