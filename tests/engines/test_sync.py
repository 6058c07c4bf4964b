"""Weights from a real learner group to a real engine: what arrives is what the learner holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from actors.cluster import ActorSpec
from actors.learner_client import RayLearner
from actors.settings import learner_env
from actors.supervise import call
from bard_ray.config.schema import LearnerConfig, RolloutConfig
from bard_ray.records import SamplingSpec, TrainSequence
from bard_ray.rl.sequences import sequence_tokens
from bard_ray.roles import LossSpec, OptimSpec
from tests.engines.conftest import MAX_LEN, spawn_worker
from tests.engines.test_rollout import (
    LIMIT_S,
    TOLERANCE,
    forward_gap,
    greedy,
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
    from actors.learner_actor import LearnerActor

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
