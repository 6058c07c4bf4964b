"""Roles, engines and teachers for the steps of the data pipeline, on the cluster of the run.

Nothing starts before a step requests it, so a complete corpus starts no engine.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from actors.placement.model_host import ModelHost
from bard_ray.budget.sampler import train_budgets
from bard_ray.data.questions import eval_questions
from bard_ray.distill.filter import FilterContext
from bard_ray.distill.step import StepTools
from bard_ray.distill.teacher import EngineSpec, Teacher, make_backends
from bard_ray.errors import ConfigError
from bard_ray.roles import Reference, Sampler, Verifier

if TYPE_CHECKING:
    from actors.placement.plan import RoleName
    from actors.stages.context import Context
    from bard_ray.data.prompt import PromptFormat

T = TypeVar("T")

# Placed roles for each entry of a step's `ROLES`; a teacher has its own workers, or none.
PLACED_ROLES: dict[str, RoleName] = {
    "student": "rollout",
    "verifier": "verifier",
    "reference": "reference",
}


@dataclass(frozen=True)
class OpenTeacher:
    """A teacher that is ready to use, with its name."""

    name: str
    teacher: Teacher


class PipelineResources:
    """Starts roles, engines and teachers on first request; stops engines and teachers."""

    def __init__(self, context: Context, declared: Collection[str], replies: Path) -> None:
        """Store the settings; nothing starts yet.

        Args:
            context: context of the run.
            declared: `ROLES` of all steps; the placed ones start together on the first request.
            replies: directory of the reply caches.
        """
        self._context, self._replies = context, replies
        self._declared = frozenset(declared)
        self._teachers: dict[str, asyncio.Task[OpenTeacher]] = {}
        self._closed_counters: dict[str, dict[str, float]] = {}
        self._student: asyncio.Task[Sampler] | None = None
        self._starting = asyncio.Lock()
        self._task_pool: TaskPool | None = None
        self._host: ModelHost | None = None

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self._context.config.run.seed

    @property
    def replies(self) -> Path:
        """Directory of the reply caches."""
        return self._replies

    def tools(self, teacher: str, prompts: PromptFormat) -> StepTools:
        """The tools of all steps for one teacher's chains."""
        config = self._context.config
        questions = eval_questions(config.data, config.run.seed)
        texts = ["\n".join(m.content for m in question.messages) for question in questions]
        student = config.student
        return StepTools(
            seed=self.seed,
            teacher_name=teacher,
            prompts=prompts,
            train_budgets=tuple(train_budgets(config.budget)),
            context=FilterContext(texts, student.think_open, student.think_close),
            verifier=self.verifier,
            teacher=self.teacher,
            student=self.student,
            reference=self.reference,
            compute=self.compute,
        )

    async def verifier(self) -> Verifier:
        """The verifier pool.

        Raises:
            ConfigError: no step declares it.
        """
        await self._start_roles("verifier")
        roles = self._context.roles
        await roles.sampling_ready
        return roles.verifier

    async def student(self) -> Sampler:
        """The student's rollout workers, loaded with the weights that `sft` starts from.

        Raises:
            ConfigError: no step declares them.
        """
        if self._student is None:
            self._student = asyncio.create_task(self._load_student())
        return await asyncio.shield(self._student)

    async def reference(self, path: str) -> Reference:
        """A reference for log-probs under a model directory or hub id; `""` is the student.

        Raises:
            ConfigError: no step declares it.
        """
        if path:
            return await (await self._model_host()).reference(path)
        await self._start_roles("reference")
        reference = self._context.roles.reference
        assert reference is not None  # noqa: S101 started above
        await reference.load(self._context.weights_before("distill"))
        return reference

    async def teacher(self, name: str) -> Teacher:
        """A teacher of the configuration; opened on first request."""
        if name not in self._teachers:
            self._teachers[name] = asyncio.create_task(self._open(name))
        return (await asyncio.shield(self._teachers[name])).teacher

    async def _open(self, name: str) -> OpenTeacher:
        backend = make_backends(self._context.config.distill.teachers)[name]
        return OpenTeacher(name, await backend.open(name, self))

    async def engines(self, spec: EngineSpec) -> tuple[Sampler, PromptFormat]:
        """Rollout workers that serve a model other than the student."""
        return await (await self._model_host()).engines(spec)

    async def compute(self, function: Callable[..., T], *args: Any) -> T:
        """Run a pure function in a Ray task if the cluster has free CPUs, else in a thread."""
        async with self._starting:
            if self._task_pool is None:
                await self._context.deployment.connect()
                self._task_pool = TaskPool(self._context.config.distill.workers)
        return await self._task_pool(function, *args)

    def counters(self) -> dict[str, dict[str, float]]:
        """Counters of every teacher used by this command."""
        ready = [t.result() for t in self._teachers.values() if t.done() and not t.exception()]
        return self._closed_counters | {r.name: dict(r.teacher.counters()) for r in ready}

    async def close(self) -> None:
        """Close teachers and their engines; a later request restarts them.

        The roles keep running, but the next request reloads the student's weights, because other
        stages may load different weights in between.
        """
        teachers, host = list(self._teachers.values()), self._host
        self._teachers, self._student, self._host = {}, None, None
        for task in teachers:
            task.cancel()
            ready = (await asyncio.gather(task, return_exceptions=True))[0]
            if not isinstance(ready, BaseException):
                self._closed_counters[ready.name] = dict(ready.teacher.counters())
                await ready.teacher.close()
        if host is not None:
            await host.close()

    async def _model_host(self) -> ModelHost:
        async with self._starting:
            if self._host is None:
                await self._context.deployment.connect()
                self._host = ModelHost(self._context.deployment.cluster, self._context.config)
            return self._host

    async def _start_roles(self, needed: str) -> None:
        """Start all declared roles.

        Raises:
            ConfigError: `needed` is not declared.
        """
        # A deployment always has verifiers.
        declared = self._declared | {"verifier"}
        if needed not in declared:
            rule = f"a step uses the {needed}, and no step declares it"
            fix = f'Add "{needed}" to ROLES of the class of that step.'
            raise ConfigError("distill.steps", sorted(self._declared), rule, fix)
        placed = {PLACED_ROLES[name] for name in declared if name in PLACED_ROLES}
        async with self._starting:
            await self._context.deployment.start(placed)

    async def _load_student(self) -> Sampler:
        await self._start_roles("student")
        sampler = self._context.roles.sampler
        await self._context.roles.sampling_ready
        await sampler.load(self._context.weights_before("distill"), self._context.versions.next())
        return sampler


class TaskPool:
    """Runs pure functions on the CPUs that nothing else has reserved.

    It uses Ray tasks of one CPU each: at most the number of free CPUs at the first request, or
    `distill.workers`; further callers wait. If no CPU is free, as on a small machine whose roles
    use all of them, it uses threads of this process.
    """

    def __init__(self, workers: int) -> None:
        import ray

        free = int(ray.available_resources().get("CPU", 0.0))
        self._on_cluster = free >= 1
        concurrency = workers or (free if self._on_cluster else os.cpu_count() or 1)
        self._slots = asyncio.Semaphore(concurrency)

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Return the function's result, or raise its exception."""
        async with self._slots:
            if not self._on_cluster:
                return await asyncio.to_thread(function, *args)
            return await self._remote(function, *args)

    async def _remote(self, function: Callable[..., T], *args: Any) -> T:
        import ray
        from ray.exceptions import RayTaskError

        task = ray.remote(num_cpus=1, max_retries=3)(function)
        try:
            result: T = await task.remote(*args)
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None
        return result
