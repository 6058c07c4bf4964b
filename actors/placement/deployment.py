"""Starts the roles of a run on its cluster.

It assigns each class its bundle, environment and threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from actors.cluster.env import engine_env, learner_env, packed_env
from actors.cluster.ray_cluster import ActorSpec, Cluster
from actors.cluster.signals import take_back_sigterm
from actors.learner.client import RayLearner
from actors.placement.plan import Plan, RoleName, check_resources, plan_placement, sized
from actors.reference.client import RayReference
from actors.rollout.client import RaySampler
from actors.verifier.client import RayVerifier
from actors.verifier.golds import grading_setup
from bard_ray.config.schema import Config
from bard_ray.errors import ActorLostError, InvariantError

if TYPE_CHECKING:
    from ray.actor import ActorHandle

T = TypeVar("T")


@dataclass
class Roles:
    """The roles of a run while they start; `reference` is None if no term needs it.

    They start in parallel, and a stage waits only for those it uses: supervised training does not
    wait for vLLM. Data stages start only the roles they use; accessing another one is an error.
    """

    names: frozenset[RoleName]
    verifier: RayVerifier
    given_sampler: RaySampler | None
    given_learner: RayLearner | None
    reference: RayReference | None
    learner_ready: asyncio.Task[None]
    sampling_ready: asyncio.Task[None]

    @property
    def sampler(self) -> RaySampler:
        """The rollout workers.

        Raises:
            InvariantError: they were not started.
        """
        return _there(self.given_sampler, "rollout workers")

    @property
    def learner(self) -> RayLearner:
        """The learner ranks.

        Raises:
            InvariantError: they were not started.
        """
        return _there(self.given_learner, "learner ranks")

    async def stop(self) -> None:
        """Cancel pending starts; the actors themselves end with the cluster."""
        for task in (self.learner_ready, self.sampling_ready):
            task.cancel()
        await asyncio.gather(self.learner_ready, self.sampling_ready, return_exceptions=True)


def _there(role: T | None, what: str) -> T:
    if role is None:
        msg = f"a stage uses {what}, which were not started"
        raise InvariantError(msg)
    return role


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await work to completion even if the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def bundles(plan: Plan) -> list[dict[str, float]]:
    """One bundle per process, roles in the plan's order."""
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
    """Spawns the actors of each role.

    The clients call it again to replace a lost actor.
    """

    def __init__(self, cluster: Cluster, plan: Plan, config: Config, model_path: str) -> None:
        self._cluster, self._plan, self._config, self._model_path = (
            cluster,
            plan,
            config,
            model_path,
        )

    def start(self) -> Roles:
        """Spawn every actor of the plan and begin to start the roles."""
        config, kill = self._config, self._cluster.kill
        names = frozenset(role.name for role in self._plan.roles)
        learner = sampler = reference = None
        if "learner" in names:
            ranks = [self.learner(i) for i in range(config.learner.ranks)]
            learner = RayLearner(ranks, config.learner, config.rollout.dtype, self._lost_rank)
        if "rollout" in names:
            sampler = RaySampler(
                config.rollout.workers, self.rollout, kill, config.rollout.call_timeout_s
            )
        grading = config.verifier
        verifier = RayVerifier(
            max(1, grading.workers), self.verifier, kill, grading.limit_s, grading.max_pending
        )
        if "reference" in names:
            reference = RayReference(self.reference, kill, config.reference.call_timeout_s)

        async def training() -> None:
            if learner is not None:
                await learner.start()

        async def sampling() -> None:
            up = [verifier.start()] if sampler is None else [sampler.start(), verifier.start()]
            await asyncio.gather(*up)

        loop = asyncio.get_running_loop()
        return Roles(
            names,
            verifier,
            sampler,
            learner,
            reference,
            loop.create_task(training()),
            loop.create_task(sampling()),
        )

    def rollout(self, index: int) -> ActorHandle:
        """Spawn one rollout worker."""
        from actors.rollout.worker import RolloutWorker

        config = self._config
        spec = self._spec(
            "rollout",
            index,
            engine_env(on_gpu=config.rollout.gpus > 0, loopback=self._cluster.started_here),
        )
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
        from actors.verifier.worker import VerifierWorker

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
        from actors.reference.worker import ReferenceWorker

        config = self._config
        return self._cluster.spawn(
            ReferenceWorker,
            self._spec("reference", index, packed_env()),
            config.reference,
            config.learner,
            config.student.trust_remote_code,
        )

    def learner(self, index: int) -> ActorHandle:
        """Spawn one learner rank."""
        from actors.learner.actor import LearnerActor

        config, local = self._config, self._cluster.started_here
        spec = self._spec(
            "learner", index, learner_env(on_gpu=config.learner.gpus > 0, loopback=local)
        )
        return self._cluster.spawn(
            LearnerActor,
            spec,
            index,
            config.learner.ranks,
            config.learner,
            config.run.seed,
            local,
            config.student.trust_remote_code,
        )

    def _lost_rank(self, rank: int, error: BaseException) -> ActorLostError:
        return self._cluster.lost(f"learner-{rank}", f"learner rank {rank}", error)

    def _spec(self, name: str, index: int, env: dict[str, str] | None = None) -> ActorSpec:
        role = next(role for role in self._plan.roles if role.name == name)
        threads = self._config.learner.threads if name in {"learner", "reference"} else 1
        bundle = first_bundle(self._plan, name) + index
        return ActorSpec(f"{name}-{index}", bundle, role.cpus, role.gpus, threads, env or {})


class Deployment:
    """The processes of a run; all or some of them, started when a stage first needs them."""

    def __init__(self, cluster: Cluster, config: Config, plan: Plan, model_path: str) -> None:
        self.cluster, self.config, self.plan = cluster, config, plan
        self._model_path = model_path
        self.roles: Roles | None = None
        self._connecting = asyncio.Lock()  # several pipeline steps may make the first request

    async def start(self, names: Collection[RoleName] | None = None) -> Roles:
        """Start the roles of these names, or all of the plan; running ones are reused.

        Only one set runs at a time: if it lacks a role, it is stopped first.

        Raises:
            ResourceError: the cluster is too small.
        """
        plan = await self.connect()
        wanted = frozenset(role.name for role in plan.roles) if names is None else frozenset(names)
        if self.roles is not None and wanted <= self.roles.names:
            return self.roles
        await self.stop()
        plan = plan.only(wanted)
        await self.cluster.reserve(bundles(plan))
        self.roles = Starter(self.cluster, plan, self.config, self._model_path).start()
        return self.roles

    async def connect(self) -> Plan:
        """Join or start the cluster; returns the plan with worker counts resolved for it."""
        async with self._connecting:
            available = await _to_its_end(asyncio.to_thread(self.cluster.connect))
            take_back_sigterm()
        if self.cluster.started_here:
            check_resources(self.plan, available)
        else:
            self.config = sized(self.config, available, local=False)
            self.plan = plan_placement(self.config)
        return self.plan

    async def stop(self) -> None:
        """Stop the running roles and free their bundles; the cluster keeps running."""
        if self.roles is not None:
            await self.roles.stop()
            self.roles = None
            self.cluster.vacate()

    async def close(self) -> None:
        """Stop everything, including the cluster if it was started here."""
        await self.stop()
        self.cluster.close()
