"""Teacher selection: the configured teacher, the only one, or the winner of a smoke test."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bard_ray.budget.sampler import train_budgets
from bard_ray.data.questions import smoke_questions
from bard_ray.distill.choice import TeacherChoice
from bard_ray.distill.corpus import budget_corpus
from bard_ray.distill.identity import digest
from bard_ray.distill.smoke import SmokeRoles, SmokeSpec, choose_teacher, smoke_plan, smoke_sft
from bard_ray.distill.teacher import candidates
from bard_ray.errors import DataError
from bard_ray.files import write_json
from bard_ray.records import DistillRow, Question

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from actors.stages.context import Context
    from actors.stages.resources import PipelineResources
    from bard_ray.config.schema import Config
    from bard_ray.distill.pipeline import Pipeline
    from bard_ray.progress import Progress

    Build = Callable[[str, int], Awaitable[Pipeline]]  # (teacher, number of questions)


async def select_teacher(
    context: Context, resources: PipelineResources, store: Path, build: Build, progress: Progress
) -> tuple[str, TeacherChoice | None]:
    """Select the teacher whose chains are used; returns it and the smoke test's result, if any.

    An earlier choice for the same corpora and settings is reused.

    Args:
        context: context of the run.
        resources: resources of the pipelines; closed before students are trained.
        store: directory in which choices are stored.
        build: builds a candidate's pipeline.
        progress: progress of the stage.
    """
    config = context.config
    names = candidates(config.distill)
    if len(names) < 2:
        return (names[0] if names else ""), None
    corpora: dict[str, list[DistillRow]] = {}
    keys = []
    for done, name in enumerate(names):
        progress.update(100 * done, 1000, f"chains of {name} for the smoke test")
        pipeline = await build(name, config.distill.smoke.questions)
        try:
            await pipeline.run()
        finally:
            await resources.close()
        keys.append(pipeline.nodes[-1].store.key)
        corpora[name] = await asyncio.to_thread(_corpus, pipeline, config)
    path = store / f"choice-{digest([keys, _settings(config)])[:16]}.json"
    choice = await asyncio.to_thread(_stored_choice, path)
    if choice is None:
        choice = await _smoke_test(context, corpora, progress)
        await asyncio.to_thread(write_json, path, choice.to_json())
    return choice.winner, choice


def _corpus(pipeline: Pipeline, config: Config) -> list[DistillRow]:
    """The rows of a candidate; empty if all of its chains were dropped."""
    compressed = list(pipeline.records())
    natural = list(pipeline.records(after=len(pipeline.nodes) - 1))
    try:
        return budget_corpus(compressed, natural, config.budget.none_share, config.run.seed)
    except DataError:
        return []


def _settings(config: Config) -> list[object]:
    """Settings that the outcome depends on besides the corpora."""
    evaluate = config.evaluate
    parts = [config.distill.smoke, config.sft, config.student, config.data]
    return [*parts, evaluate.temperature, evaluate.max_new_tokens]


def _stored_choice(path: Path) -> TeacherChoice | None:
    try:
        return TeacherChoice.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def _smoke_test(
    context: Context,
    corpora: dict[str, list[DistillRow]],
    progress: Progress,
) -> TeacherChoice:
    """Train and evaluate a student of each candidate on the run's learner and rollout workers."""
    config = context.config
    plan = context.deployment.plan
    wanted = {role.name for role in plan.roles}
    roles = await context.deployment.start(wanted)
    await asyncio.gather(roles.learner_ready, roles.sampling_ready)
    scratch = context.run.path / "checkpoints" / "smoke"
    scratch.mkdir(parents=True, exist_ok=True)
    spec = SmokeSpec(
        student=context.weights_before("distill"),
        prompts=context.prompt_format(),
        max_len=config.student.max_len,
        sft=smoke_sft(config.distill.smoke, config.sft),
        questions=tuple(await asyncio.to_thread(_questions, config, list(corpora.values()))),
        plan=smoke_plan(config.evaluate, train_budgets(config.budget), config.run.seed),
        seed=config.run.seed,
    )
    smoke = SmokeRoles(
        roles.learner,
        roles.sampler,
        roles.verifier,
        context.versions.next,
        roles.reference,
        scratch,
    )

    def on_progress(done: int, total: int, detail: str) -> None:
        progress.update(300 + 300 * done // max(1, total), 1000, f"smoke test, {detail}")

    try:
        return await choose_teacher(corpora, smoke, spec, on_progress)
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


def _questions(config: Config, corpora: Sequence[Sequence[DistillRow]]) -> list[Question]:
    taken = [row.question for rows in corpora for row in rows]
    count = config.distill.smoke.eval_questions
    return smoke_questions(config.data, config.run.seed, count, taken)
