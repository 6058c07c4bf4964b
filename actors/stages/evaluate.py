"""The stage `evaluate`: a budget sweep for every student of the run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from actors.stages.context import Context, Facts
from bard_ray.data.questions import eval_questions
from bard_ray.errors import InvariantError
from bard_ray.evals.metrics import VariantSummary
from bard_ray.evals.sweep import evaluate_variant, forcing, plan_sweep
from bard_ray.files import write_json
from bard_ray.progress import Progress
from bard_ray.rundir import RunDirectory


async def evaluate_stage(context: Context, progress: Progress) -> Facts:
    """Sweep the budgets for every student this run has.

    A variant that was measured before is not measured again.
    """
    await context.roles.sampling_ready
    plan = plan_sweep(context.config.evaluate, context.config.run.seed)
    students = [
        ("sft", "sft", plan),
        ("rl", "rl", plan),
        ("sft_full_forced", "sft_full", forcing(plan)),
    ]
    jobs = [(variant, stage, p) for variant, stage, p in students if context.run.is_done(stage)]
    if not jobs:
        msg = "there is no trained student to evaluate: every training stage is switched off"
        raise InvariantError(msg)
    questions = await asyncio.to_thread(
        eval_questions, context.config.data, context.config.run.seed
    )
    total = sum(len(questions) * len(p.budgets) for _, _, p in jobs)
    done_before = 0
    for variant, stage, sweep_plan in jobs:
        size = len(questions) * len(sweep_plan.budgets)
        if not eval_path(context.run, variant).exists():
            weights = str(context.run.checkpoint(stage).resolve())
            await context.roles.sampler.load(weights, context.next_version())

            def on_progress(
                done: int, _: int, base: int = done_before, name: str = variant
            ) -> None:
                progress.update(base + done, total, name)

            sampler, verifier = context.roles.sampler, context.roles.verifier
            summary = await evaluate_variant(sampler, verifier, questions, sweep_plan, on_progress)
            write_json(eval_path(context.run, variant), summary)
        done_before += size
    progress.update(
        total,
        total,
        f"{len(plan.budgets)} points x {len(questions)} questions x {len(jobs)} variants",
    )
    return {"variants": [variant for variant, _, _ in jobs]}


def eval_path(run: RunDirectory, variant: str) -> Path:
    """File of one variant's summary."""
    return run.path / "evals" / f"{variant}.json"


def read_evals(run: RunDirectory) -> dict[str, VariantSummary]:
    """Summaries of all variants, in the order of the evaluation; none where it was switched off."""
    if not run.is_done("evaluate"):
        return {}
    return {
        variant: json.loads(eval_path(run, variant).read_text())
        for variant in run.facts("evaluate")["variants"]
    }
