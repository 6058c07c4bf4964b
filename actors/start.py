"""Starts the roles of a run on its cluster.

Which class goes into which bundle, with which environment and threads.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.clients import RayReference, RaySampler
from actors.cluster import ActorSpec, Cluster
from actors.golds import grading_setup
from actors.learner_client import RayLearner
from actors.plan import Plan
from actors.settings import engine_env, learner_env
from actors.verifier_client import RayVerifier
from bard_ray.config.schema import Config

if TYPE_CHECKING:
    from ray.actor import ActorHandle


@dataclass
class Roles:
    """The four roles, being started; `reference` is None where no term needs it.

    They come up side by side and a stage waits only for those it uses: supervised training does not
    wait for vLLM.
    """

    sampler: RaySampler
    verifier: RayVerifier
    learner: RayLearner
    reference: RayReference | None
    learner_ready: asyncio.Task[None]
    sampling_ready: asyncio.Task[None]

    async def stop(self) -> None:
        """Stop waiting for what is not up yet; the actors themselves die with the cluster."""
        for task in (self.learner_ready, self.sampling_ready):
            task.cancel()
        await asyncio.gather(self.learner_ready, self.sampling_ready, return_exceptions=True)


def bundles(plan: Plan) -> list[dict[str, float]]:
    """One bundle a process, roles in the plan's order."""
    return [role.bundle for role in plan.roles for _ in range(role.count)]


def first_bundle(plan: Plan, name: str) -> int:
    """Index of a role's first bundle."""
    before = 0
    for role in plan.roles:
        if role.name == name:
            return before
        before += role.count
    raise KeyError(name)


class Starter:
    """Knows how to spawn each role's actors.

    The clients call back here when one has to be replaced.
    """

    def __init__(self, cluster: Cluster, plan: Plan, config: Config, model_path: str) -> None:
        self._cluster, self._plan, self._config, self._model_path = (
            cluster,
            plan,
            config,
            model_path,
        )

    def start(self) -> Roles:
        """Spawn every actor and begin to bring the roles up."""
        config, kill = self._config, self._cluster.kill
        learner = RayLearner(
            [self.learner(i) for i in range(config.learner.ranks)],
            config.learner,
            config.rollout.dtype,
        )
        sampler = RaySampler(
            config.rollout.workers, self.rollout, kill, config.rollout.call_timeout_s
        )
        grading = config.verifier
        verifier = RayVerifier(
            max(1, grading.workers), self.verifier, kill, grading.limit_s, grading.max_pending
        )
        reference = None
        if self._plan.role("reference") is not None:
            reference = RayReference(self.reference, kill, config.reference.call_timeout_s)

        async def sampling() -> None:
            await asyncio.gather(sampler.start(), verifier.start())

        loop = asyncio.get_running_loop()
        return Roles(
            sampler,
            verifier,
            learner,
            reference,
            loop.create_task(learner.start()),
            loop.create_task(sampling()),
        )

    def rollout(self, index: int) -> ActorHandle:
        """Spawn one rollout worker."""
        from actors.rollout import RolloutWorker

        config = self._config
        spec = self._spec("rollout", index, engine_env(on_gpu=config.rollout.gpus > 0))
        return self._cluster.spawn(
            RolloutWorker,
            spec,
            self._model_path,
            config.rollout,
            config.student,
            config.budget,
            config.run.seed + index,
        )

    def verifier(self, index: int) -> ActorHandle:
        """Spawn one grading actor."""
        from actors.verifier import VerifierWorker

        config = self._config.verifier
        return self._cluster.spawn(
            VerifierWorker,
            self._spec("verifier", index),
            config.limit_s,
            config.memory_mb,
            grading_setup(self._config),
        )

    def reference(self, index: int) -> ActorHandle:
        """Spawn the reference worker."""
        from actors.reference import ReferenceWorker

        config = self._config
        return self._cluster.spawn(
            ReferenceWorker, self._spec("reference", index), config.reference, config.learner
        )

    def learner(self, index: int) -> ActorHandle:
        """Spawn one learner rank."""
        from actors.learner_actor import LearnerActor

        config, local = self._config, self._cluster.started_here
        spec = self._spec(
            "learner", index, learner_env(on_gpu=config.learner.gpus > 0, loopback=local)
        )
        return self._cluster.spawn(
            LearnerActor, spec, index, config.learner.ranks, config.learner, config.run.seed, local
        )

    def _spec(self, name: str, index: int, env: dict[str, str] | None = None) -> ActorSpec:
        role = next(role for role in self._plan.roles if role.name == name)
        threads = self._config.learner.threads if name in {"learner", "reference"} else 1
        bundle = first_bundle(self._plan, name) + index
        return ActorSpec(f"{name}-{index}", bundle, role.cpus, role.gpus, threads, env or {})
