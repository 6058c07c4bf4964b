"""Engines are started once a session and shared: a vLLM engine takes ten seconds or more to
start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.cluster.env import apply_driver_env, engine_env
from actors.cluster.ray_cluster import ActorSpec, Cluster
from bard_ray.config.schema import (
    BudgetConfig,
    ChainConfig,
    ClusterConfig,
    RolloutConfig,
    StudentConfig,
    TinyModelConfig,
)

MAX_LEN = 256


@pytest.fixture(scope="session")
def student() -> StudentConfig:
    return StudentConfig(max_len=MAX_LEN)


def write_model(path: Path, seed: int) -> str:
    """A tiny model whose weights are large enough for peaked distributions."""
    from bard_ray.data.tiny_model import write_tiny_model

    write_tiny_model(str(path), TinyModelConfig(init_std=0.15), ChainConfig(), seed, MAX_LEN)
    return str(path)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Four models of one shape with different weights."""
    root = tmp_path_factory.mktemp("models")
    return [write_model(root / f"m{seed}", seed) for seed in range(4)]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A local Ray cluster with more logical CPUs than the machine has: the tests mostly wait."""
    apply_driver_env()
    os.environ.pop("RAY_ADDRESS", None)
    import asyncio

    logs = tmp_path_factory.mktemp("logs")
    cluster = Cluster(ClusterConfig(cpus=16, object_store_mb=256), logs, verbose=False)
    cluster.connect()
    asyncio.run(cluster.reserve([{"CPU": 1.0}] * 12))
    yield cluster
    cluster.close()


def spawn_worker(
    cluster: Cluster,
    name: str,
    bundle: int,
    model: str,
    config: RolloutConfig,
    student: StudentConfig,
):
    """A hosted rollout worker, not started yet."""
    from actors.rollout.worker import RolloutWorker

    spec = ActorSpec(name, bundle, cpus=1.0, gpus=0.0, env=engine_env(on_gpu=False))
    return cluster.spawn(
        RolloutWorker, spec, model, config, student, BudgetConfig(codec="digits"), 0
    )
