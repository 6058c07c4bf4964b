"""Clusters of this machine and the roles that benchmarks start on them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from actors.cluster.env import engine_env, learner_env
from actors.cluster.ray_cluster import ActorSpec, Cluster
from actors.learner.actor import LearnerActor
from bard_ray.config.schema import (
    BudgetConfig,
    ClusterConfig,
    Config,
    LearnerConfig,
    RolloutConfig,
    StudentConfig,
)

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from actors.placement.deployment import Roles
    from actors.rollout.worker import RolloutWorker

CPU = {"CPU": 1.0}  # bundle of one actor
MAX_LEN = 256  # tokens, of models that benchmarks make up


@asynccontextmanager
async def local_cluster(
    config: ClusterConfig, reserved: Sequence[Mapping[str, float]]
) -> AsyncIterator[Cluster]:
    """A cluster with its bundles reserved; gone at the end, logs included."""
    with tempfile.TemporaryDirectory() as logs:
        cluster = Cluster(config, Path(logs), verbose=False)
        try:
            await asyncio.to_thread(cluster.connect)
            await cluster.reserve(reserved)
            yield cluster
        finally:
            cluster.close()


@asynccontextmanager
async def all_roles(config: Config, model: str) -> AsyncIterator[Roles]:
    """A cluster of its own with every role of a configuration started.

    The imports are in here since they load torch, which only some benchmarks want in this process.
    """
    from actors.placement.deployment import Starter, bundles
    from actors.placement.plan import plan_placement

    plan = plan_placement(config)
    async with local_cluster(config.cluster, bundles(plan)) as cluster:
        roles = Starter(cluster, plan, config, model).start()
        try:
            await asyncio.gather(roles.learner_ready, roles.sampling_ready)
            yield roles
        finally:
            await roles.stop()


def spawn_rollout(
    cluster: Cluster, kind: type[RolloutWorker], model: str, config: RolloutConfig
) -> ActorHandle:
    """A rollout worker in the first bundle, not started yet."""
    spec = ActorSpec(f"rollout-{kind.__name__}", 0, 1.0, 0.0, env=engine_env(on_gpu=False))
    student, budget = StudentConfig(max_len=MAX_LEN), BudgetConfig(codec="digits")
    return cluster.spawn(kind, spec, model, config, student, budget, 0)


def spawn_learner(
    cluster: Cluster,
    config: LearnerConfig,
    first_bundle: int,
    kind: type[LearnerActor] = LearnerActor,
) -> list[ActorHandle]:
    """The ranks of a learner group, in bundles that follow each other, not connected yet."""
    env = learner_env(on_gpu=False, loopback=True)
    return [
        cluster.spawn(
            kind,
            ActorSpec(f"learner-{bundle}", bundle, config.cpus, 0.0, config.threads, env),
            *(bundle - first_bundle, config.ranks, config, 0, True),
        )
        for bundle in range(first_bundle, first_bundle + config.ranks)
    ]
