"""Models besides the run's own roles: teachers that write chains, policies that score them.

Each has its own workers on its own placement bundles, from the first request until the host is
closed. Lost workers are replaced like those of the student.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.cluster.env import engine_env, packed_env
from actors.cluster.ray_cluster import ActorSpec, Cluster
from actors.placement.model_paths import model_directory
from actors.reference.client import RayReference
from actors.rollout.client import RaySampler
from bard_ray.config.schema import BudgetConfig, Config, RolloutConfig, StudentConfig
from bard_ray.data.prompt import PromptFormat
from bard_ray.distill.teacher import EngineSpec, prompt_format
from bard_ray.preflight.roles import CPU_BLOCK

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.util.placement_group import PlacementGroup

ROLE = "distill.teachers"  # the configuration section that names models


class ModelHost:
    """Serves models on a run's cluster: `engines` generate text, `reference` scores it.

    Identical requests share one set of workers.
    """

    def __init__(self, cluster: Cluster, config: Config) -> None:
        self._cluster, self._config = cluster, config
        self._numbers = itertools.count()
        self._served: dict[Hashable, asyncio.Task[Any]] = {}
        self._stops: list[Callable[[], Awaitable[None]]] = []

    async def engines(self, spec: EngineSpec) -> tuple[RaySampler, PromptFormat]:
        """Start rollout workers for a model; returns them and the model's prompt format.

        Raises:
            ConfigError: the model is not on this machine, or its tokenizer cannot be used.
            ResourceError: the cluster is too small for the workers.
            InfrastructureError: an engine does not start.
        """
        return await self._once(spec, lambda: self._serve(spec))

    async def reference(self, model: str, revision: str = "main") -> RayReference:
        """Start a reference worker with a model's weights.

        Its resources are those of the `reference` section, independent of the model's size.

        Raises: as `engines` does.
        """
        return await self._once((model, revision), lambda: self._score(model, revision))

    async def close(self) -> None:
        """Stop all workers and release their resources."""
        for task in self._served.values():
            task.cancel()
        await asyncio.gather(*self._served.values(), return_exceptions=True)
        self._served = {}
        while self._stops:
            await self._stops.pop()()

    async def _once(self, key: Hashable, serve: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The result of `serve`, called once for all callers and retried after a failure."""
        task = self._served.get(key)
        if task is None:
            task = self._served[key] = asyncio.create_task(serve())
        try:
            return await asyncio.shield(task)  # a cancelled caller does not cancel the others
        except BaseException:
            if task.done() and self._served.get(key) is task:
                del self._served[key]
            raise

    async def _serve(self, spec: EngineSpec) -> tuple[RaySampler, PromptFormat]:
        path = await asyncio.to_thread(model_directory, spec.model, spec.revision, ROLE)
        prompts = await asyncio.to_thread(prompt_format, path, spec)
        rollout, student = _rollout_config(spec, self._config.rollout), _model_config(spec)
        bundle = _bundle(spec.cpus, spec.gpus)
        group = await self._cluster.reserve_beside([bundle] * spec.workers, _fix(spec))
        name = f"teacher-{next(self._numbers)}"

        def spawn(index: int) -> ActorHandle:
            from actors.rollout.worker import RolloutWorker

            env = engine_env(on_gpu=spec.gpus > 0, loopback=self._cluster.started_here)
            actor = _actor(f"{name}-{index}", index, bundle, group)
            return self._cluster.spawn(
                RolloutWorker,
                replace(actor, env=env),
                path,
                rollout,
                student,
                BudgetConfig(codec="sentence"),
                self._config.run.seed + index,
            )

        sampler = RaySampler(spec.workers, spawn, self._cluster.kill, rollout.call_timeout_s)
        await self._or_release(sampler.start(), sampler.stop, group)
        return sampler, prompts

    async def _score(self, model: str, revision: str) -> RayReference:
        path = await asyncio.to_thread(model_directory, model, revision, ROLE)
        config = self._config.reference
        bundle = _bundle(config.cpus, config.gpus)
        fix = f"Scoring with {model} takes one more reference worker: lower reference.cpus or gpus"
        group = await self._cluster.reserve_beside([bundle], f"{fix}, or grow the cluster.")
        name = f"scorer-{next(self._numbers)}"

        def spawn(index: int) -> ActorHandle:
            from actors.reference.worker import ReferenceWorker

            actor = _actor(name, index, bundle, group)
            learner = self._config.learner
            spec = replace(actor, threads=learner.threads, env=packed_env())
            return self._cluster.spawn(ReferenceWorker, spec, config, learner)

        reference = RayReference(spawn, self._cluster.kill, config.call_timeout_s)
        await self._or_release(reference.load(path), reference.stop, group)
        return reference

    async def _or_release(
        self,
        start: Awaitable[None],
        stop: Callable[[], Awaitable[None]],
        group: PlacementGroup,
    ) -> None:
        """Start workers; closing the host or a failed start stops them and frees their bundles."""

        async def end() -> None:
            try:
                await stop()
            finally:
                self._cluster.release(group)

        try:
            await start
        except BaseException:
            await end()
            raise
        self._stops.append(end)


def _actor(name: str, bundle: int, needs: dict[str, float], group: PlacementGroup) -> ActorSpec:
    return ActorSpec(name, bundle, needs["CPU"], needs.get("GPU", 0.0), group=group)


def _bundle(cpus: float, gpus: float) -> dict[str, float]:
    return {"CPU": cpus} | ({"GPU": gpus} if gpus else {})


def _fix(spec: EngineSpec) -> str:
    needs = f"{spec.workers} x {spec.cpus:g} CPU"
    needs += f" and {spec.gpus:g} GPU" if spec.gpus else ""
    return (
        f"Serving {spec.model} takes {needs} besides the other roles: lower workers, cpus or gpus "
        "of its entry in distill.teachers, grow the cluster, or serve it elsewhere and use the "
        "backend openai."
    )


def _rollout_config(spec: EngineSpec, student: RolloutConfig) -> RolloutConfig:
    """Settings of the workers; fields not in the specification are those of the student."""
    return replace(
        student,
        engine="auto",
        workers=spec.workers,
        cpus=spec.cpus,
        gpus=spec.gpus,
        tensor_parallel=spec.tensor_parallel,
        dtype=spec.dtype,
        kv_cache_mb=spec.kv_cache_mb,
        gpu_memory_utilization=min(student.gpu_memory_utilization, spec.gpus or 1.0),
        block_size=student.block_size if spec.gpus else max(student.block_size, CPU_BLOCK),
        weight_load="in_place",  # its weights never change
    )


def _model_config(spec: EngineSpec) -> StudentConfig:
    return StudentConfig(
        path=spec.model,
        revision=spec.revision,
        max_len=spec.max_len,
        think_open=spec.think_open,
        think_close=spec.think_close,
    )
