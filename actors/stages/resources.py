"""What steps of the data pipeline use beside their records, on the cluster of the run.

Nothing is started before a step asks for it: a corpus that is complete already costs no engine.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from actors.placement.model_host import ModelHost
from bard_ray.budget.sampler import train_budgets
from bard_ray.data.questions import eval_questions
from bard_ray.distill.filter import FilterContext as Selecting
from bard_ray.distill.step import Tools
from bard_ray.distill.teacher import EngineSpec, Teacher, make_backends
from bard_ray.errors import ConfigError
from bard_ray.roles import Reference, Sampler, Verifier

if TYPE_CHECKING:
    from actors.placement.plan import RoleName
    from actors.stages.context import Context
    from bard_ray.data.prompt import PromptFormat

T = TypeVar("T")


@dataclass(frozen=True)
class OpenTeacher:
    """A teacher that is up."""

    name: str
    teacher: Teacher


class PipelineResources:
    """Starts roles, engines and teachers when they are first asked for; one phase of the stage."""

    def __init__(self, context: Context, roles: set[RoleName], replies: Path) -> None:
        """Start nothing yet.

        Args:
            context: of the run.
            roles: all roles that this phase may ask for, started together at the first request.
            replies: directory where replies that were paid for are kept.
        """
        self._context, self._roles, self._replies = context, roles, replies
        self._teachers: dict[str, asyncio.Task[OpenTeacher]] = {}
        self._counted: dict[str, dict[str, float]] = {}
        self._student: asyncio.Task[Sampler] | None = None
        self._starting = asyncio.Lock()
        self._compute: Compute | None = None
        self._host: ModelHost | None = None

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self._context.config.run.seed

    @property
    def replies(self) -> Path:
        """Directory where replies that were paid for are kept."""
        return self._replies

    def tools(self, teacher: str, prompts: PromptFormat) -> Tools:
        """Everything that steps get, for one teacher's chains."""
        config = self._context.config
        questions = eval_questions(config.data, config.run.seed)
        texts = ["\n".join(m.content for m in question.messages) for question in questions]
        student = config.student
        return Tools(
            seed=self.seed,
            teacher_name=teacher,
            prompts=prompts,
            taught=tuple(train_budgets(config.budget)),
            context=Selecting(texts, student.think_open, student.think_close),
            verifier=self.verifier,
            teacher=self.teacher,
            student=self.student,
            reference=self.reference,
            compute=self.compute,
        )

    async def verifier(self) -> Verifier:
        """The grading workers."""
        await self._up()
        roles = self._context.roles
        await roles.sampling_ready
        return roles.verifier

    async def student(self) -> Sampler:
        """The student's rollout workers, with the weights that the supervised stage begins with."""
        if self._student is None:
            self._student = asyncio.create_task(self._load_student())
        return await asyncio.shield(self._student)

    async def reference(self, path: str) -> Reference:
        """Log-probs under a model directory or hub id; the empty one is the student's."""
        if path:
            return await (await self._model_host()).reference(path)
        await self._up()
        reference = self._context.roles.reference
        if reference is None:
            rule, fix = "has no reference worker for log-probs", "Set rl.kl_coef above 0."
            raise ConfigError("distill.steps", "likelihoods", rule, fix)
        await reference.load(self._context.weights_before("distill"))
        return reference

    async def teacher(self, name: str) -> Teacher:
        """A teacher of the configuration, opened once."""
        if name not in self._teachers:
            self._teachers[name] = asyncio.create_task(self._open(name))
        return (await asyncio.shield(self._teachers[name])).teacher

    async def _open(self, name: str) -> OpenTeacher:
        backend = make_backends(self._context.config.distill.teachers)[name]
        return OpenTeacher(name, await backend.open(name, self))

    async def engines(self, spec: EngineSpec) -> tuple[Sampler, PromptFormat]:
        """Rollout workers that serve another model than the student."""
        return await (await self._model_host()).engines(spec)

    async def compute(self, function: Callable[..., T], *args: Any) -> T:
        """A Ray task where the cluster has free CPUs, else a thread of this process."""
        async with self._starting:
            if self._compute is None:
                await self._context.deployment.connect()
                self._compute = Compute(self._context.config.distill.workers)
        return await self._compute(function, *args)

    def counters(self) -> dict[str, dict[str, float]]:
        """What every teacher took in this command."""
        opened = [t.result() for t in self._teachers.values() if t.done() and not t.exception()]
        return self._counted | {o.name: dict(o.teacher.counters()) for o in opened}

    async def close(self) -> None:
        """Let teachers and their engines go; what is asked for again is started anew.

        The roles stay; the student's weights are loaded anew too, since others may use its workers.
        """
        teachers, host = list(self._teachers.values()), self._host
        self._teachers, self._student, self._host = {}, None, None
        for task in teachers:
            task.cancel()
            opened = (await asyncio.gather(task, return_exceptions=True))[0]
            if not isinstance(opened, BaseException):
                self._counted[opened.name] = dict(opened.teacher.counters())
                await opened.teacher.close()
        if host is not None:
            await host.close()

    async def _model_host(self) -> ModelHost:
        async with self._starting:
            if self._host is None:
                await self._context.deployment.connect()
                self._host = ModelHost(self._context.deployment.cluster, self._context.config)
            return self._host

    async def _up(self) -> None:
        async with self._starting:
            await self._context.deployment.start(self._roles)

    async def _load_student(self) -> Sampler:
        await self._up()
        sampler = self._context.roles.sampler
        await self._context.roles.sampling_ready
        await sampler.load(self._context.weights_before("distill"), self._context.versions.next())
        return sampler


class Compute:
    """Pure functions on the CPUs that nothing else has reserved.

    Tasks of one CPU each, as many as there are free ones when the first is asked for, or
    `distill.workers`; callers beyond that wait. Where no CPU is free, as on a small machine whose
    roles have all of it, threads of this process.
    """

    def __init__(self, workers: int) -> None:
        import ray

        free = int(ray.available_resources().get("CPU", 0.0))
        self._on_cluster = free >= 1
        at_a_time = workers or (free if self._on_cluster else os.cpu_count() or 1)
        self._places = asyncio.Semaphore(at_a_time)

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """The result of the function; what it raises is raised."""
        async with self._places:
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
