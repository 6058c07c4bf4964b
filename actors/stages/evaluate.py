"""The stage `evaluate`: a budget sweep over every student of the run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.stages.context import Context, Facts
from bard_ray.data.questions import eval_questions
from bard_ray.evals.metrics import VariantSummary
from bard_ray.evals.sweep import OnProgress, SweepPlan, evaluate_variant, forcing, plan_sweep
from bard_ray.files import write_json
from bard_ray.progress import Progress
from bard_ray.records import Question
from bard_ray.rundir import RunDirectory


@dataclass(frozen=True)
class MeasuredVariant:
    """A student to evaluate: its name in the results, its model directory, its sweep."""

    name: str
    weights: str
    plan: SweepPlan


async def evaluate_stage(context: Context, progress: Progress) -> Facts:
    """Run the budget sweep for every student of this run.

    Variants that an earlier command evaluated are skipped.
    """
    await context.roles.sampling_ready
    config, todo = context.config, variants(context)
    questions = await asyncio.to_thread(eval_questions, config.data, config.run.seed)
    sizes = [len(questions) * len(variant.plan.budgets) for variant in todo]
    progress.update(0, sum(sizes))
    for index, variant in enumerate(todo):
        if not eval_path(context.run, variant.name).exists():
            share = _share(progress, sum(sizes[:index]), sum(sizes), variant.name)
            await _measure(context, variant, questions, share)
    points = len(plan_sweep(config.evaluate, config.run.seed).budgets)
    counts = f"{points} points x {len(questions)} questions x {len(todo)} variants"
    progress.update(sum(sizes), sum(sizes), counts)
    return {"variants": [variant.name for variant in todo]}


def variants(context: Context) -> list[MeasuredVariant]:
    """The students of a run, in training order.

    `student` is the given model. It is evaluated if no budget-aware SFT ran, because then it is
    the starting point of RL, or the only student.
    """
    plan = plan_sweep(context.config.evaluate, context.config.run.seed)
    trained = [
        MeasuredVariant(name, str(context.run.checkpoint(stage).resolve()), sweep)
        for name, stage, sweep in (
            ("sft", "sft", plan),
            ("rl", "rl", plan),
            ("sft_full_forced", "sft_full", forcing(plan)),
        )
        if context.run.is_done(stage)
    ]
    if context.run.is_done("sft"):
        return trained
    return [MeasuredVariant("student", context.weights_before("evaluate"), plan), *trained]


def _share(progress: Progress, before: int, total: int, name: str) -> OnProgress:
    """Report the progress of one variant as part of the stage's progress."""

    def on_progress(done: int, _: int) -> None:
        progress.update(before + done, total, name)

    return on_progress


async def _measure(
    context: Context,
    variant: MeasuredVariant,
    questions: Sequence[Question],
    on_progress: OnProgress,
) -> None:
    roles = context.roles
    await roles.sampler.load(variant.weights, context.versions.next())
    summary = await evaluate_variant(
        roles.sampler, roles.verifier, questions, variant.plan, on_progress
    )
    write_json(eval_path(context.run, variant.name), summary)


def eval_path(run: RunDirectory, variant: str) -> Path:
    """Path of one variant's summary."""
    return run.path / "evals" / f"{variant}.json"


def read_evals(run: RunDirectory) -> dict[str, VariantSummary]:
    """Summaries of all variants in evaluation order; empty if evaluation was disabled."""
    if not run.is_done("evaluate"):
        return {}
    return {
        variant: json.loads(eval_path(run, variant).read_text())
        for variant in run.facts("evaluate")["variants"]
    }
