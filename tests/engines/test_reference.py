"""The reference worker behind its client: the same hidden states as in process, a lost worker."""

from __future__ import annotations

import numpy as np
import pytest

from actors.cluster.env import engine_env
from actors.cluster.ray_cluster import ActorSpec, Cluster
from actors.reference.client import RayReference
from actors.reference.worker import ReferenceWorker
from bard_ray.config.schema import LearnerConfig, ReferenceConfig
from bard_ray.distill.diagnostics import pca_shift

pytestmark = pytest.mark.engines

BUNDLE = 11
CONFIGS = (
    ReferenceConfig(precision="float32"),
    LearnerConfig(attention="eager", pack_len=64, micro_tokens=128),
)


def texts():
    generator = np.random.default_rng(3)
    return [generator.integers(5, 40, size).astype(np.int32) for size in (9, 64, 3, 31, 30, 1, 17)]


async def test_states_equal_those_of_this_process_also_after_a_loss(cluster: Cluster, models):
    handles = []

    def spawn(index):
        spec = ActorSpec(f"reference-{index}", BUNDLE, 1.0, 0.0, env=engine_env(on_gpu=False))
        handles.append(cluster.spawn(ReferenceWorker, spec, *CONFIGS))
        return handles[-1]

    reference = RayReference(spawn, cluster.kill, 120.0)
    here = ReferenceWorker(*CONFIGS)
    found = []
    for path in models[:2]:
        here.load(path)
        await reference.load(path)
        found.append(np.stack(await reference.states(texts())))
        np.testing.assert_allclose(found[-1], np.stack(here.states(texts())), atol=1e-5)
    shift = pca_shift(*found)
    assert shift is not None
    assert shift > 0.01

    cluster.kill(handles[0])
    np.testing.assert_allclose(np.stack(await reference.states(texts())), found[1], atol=1e-5)
    assert len(handles) == 2
    cluster.kill(handles[1])
