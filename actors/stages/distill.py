"""The stage `distill`: from questions to the supervised corpora, and a report on them."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.stages.resources import PipelineResources
from actors.stages.select_teacher import pick_teacher
from bard_ray.budget.sampler import train_budgets
from bard_ray.data.questions import eval_questions
from bard_ray.distill.acceptance import AcceptanceTable
from bard_ray.distill.compressor import ALLOCATIONS, COMPRESSORS
from bard_ray.distill.corpus import budget_corpus, natural_corpus, write_corpus
from bard_ray.distill.identity import digest, identity
from bard_ray.distill.pipeline import Pipeline
from bard_ray.distill.select import make_steps
from bard_ray.distill.source import record_source
from bard_ray.distill.step import step_names
from bard_ray.distill.steps.compress import Compress
from bard_ray.distill.teacher import make_backends
from bard_ray.records import DistillRow, token_limit
from bard_ray.report.data_report import (
    DataReport,
    diversity,
    examples,
    lengths_by_budget,
    write_data_report,
)

if TYPE_CHECKING:
    from actors.placement.plan import RoleName
    from actors.stages.context import Context, Facts
    from bard_ray.config.schema import Config
    from bard_ray.data.prompt import PromptFormat
    from bard_ray.distill.choice import TeacherChoice
    from bard_ray.distill.filter import Candidate
    from bard_ray.distill.step import Step
    from bard_ray.distill.store import StepFacts
    from bard_ray.progress import Progress

EXAMPLES = 3  # questions that the report shows with all of their chains


async def distill_stage(context: Context, progress: Progress) -> Facts:
    """Choose the teacher where there are several, then make the corpora of `sft_full` and `sft`."""
    from actors.stages.context import corpus_path

    config = context.config
    found_running = context.deployment.roles is not None
    machines = PipelineResources(context, roles_needed(config), store_path(config) / "replies")

    async def build(teacher: str, questions: int) -> Pipeline:
        return await build_pipeline(context, machines, teacher, questions)

    try:
        teacher, choice = await pick_teacher(context, machines, store_path(config), build, progress)
        if not found_running:  # the learner's devices may be needed to serve the teacher
            await context.deployment.stop()
        pipeline = await build(teacher, config.distill.questions)
        pipeline.on_progress = lambda share, step: progress.update(int(1000 * share), 1000, step)
        done = await pipeline.run()
    finally:
        await machines.close()
        if not found_running:
            await context.deployment.stop()
    made = await asyncio.to_thread(collect, pipeline)
    write_report(context, made, done, choice, machines.counters())
    rows = budget_corpus(made.compressed, made.natural, config.budget.none_share, config.run.seed)
    write_corpus(corpus_path(context.run, "sft"), rows)
    full = natural_corpus(made.natural, config.sft_full.rows)
    write_corpus(corpus_path(context.run, "sft_full"), full)
    of = f" from {teacher}" if choice is not None else ""
    progress.update(1000, 1000, f"{len(rows):,} rows, {len(config.budget.train)} budgets{of}")
    return {"rows_sft": len(rows), "rows_sft_full": len(full), "teacher": teacher}


@dataclass(frozen=True)
class PipelineOutput:
    """What a finished pipeline gave.

    Attributes:
        natural: chains before the compression.
        compressed: chains at their budgets.
        tries: all results of the compression, those that failed too.
        chosen_from: chains before the selection `diverse`; empty without one.
        diverse: chains after it.
    """

    natural: list[Candidate]
    compressed: list[Candidate]
    tries: AcceptanceTable
    chosen_from: list[Candidate]
    diverse: list[Candidate]


def collect(pipeline: Pipeline) -> PipelineOutput:
    """Read the outputs of a finished pipeline that corpora and report are made from."""
    names = [node.name for node in pipeline.nodes]
    tries = AcceptanceTable()
    for record, reason in pipeline.judged():
        tries.add(token_limit(record.budget) or 0, record.tokens_T.size, reason, record.attempts)
    place = names.index("diverse") if "diverse" in names else 0
    return PipelineOutput(
        list(pipeline.records(after=-2)),
        list(pipeline.records()),
        tries,
        list(pipeline.records(after=place - 1)) if place else [],
        list(pipeline.records(after=place)) if place else [],
    )


def write_report(
    context: Context,
    made: PipelineOutput,
    steps: list[StepFacts],
    choice: TeacherChoice | None,
    teachers: dict[str, dict[str, float]],
) -> Path:
    """`data/report.html` and the same as JSON."""
    count = context.prompt_format().count_tokens
    rows = [DistillRow(r.question, r.budget, r.think, r.answer_text) for r in made.compressed]
    sampled = {r.question.id: r.pass_rate for r in made.natural if r.pass_rate is not None}
    report = DataReport(
        name=context.config.run.name,
        steps=steps,
        lengths=lengths_by_budget(rows, count),
        acceptance=made.tries,
        pass_rates=list(sampled.values()),
        diversity=diversity(made.diverse, made.chosen_from),
        choice=choice,
        teachers=teachers,
        examples=examples(rows, count, EXAMPLES),
    )
    path = context.run.path / "data" / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_data_report(path, report)


def store_path(config: Config) -> Path:
    """Where steps keep their outputs."""
    return Path(config.distill.store) if config.distill.store else Path(config.run.dir) / "distill"


def roles_needed(config: Config) -> set[RoleName]:
    """Roles that the steps of a configuration may ask for."""
    names = step_names(config.distill)
    roles: set[RoleName] = {"verifier"}
    if "sample_student" in names:
        roles.add("rollout")
    if "likelihoods" in names:
        roles.add("reference")
    return roles


async def build_pipeline(
    context: Context, machines: PipelineResources, teacher: str, questions: int
) -> Pipeline:
    """The pipeline of a configuration, for the chains of one teacher."""
    config, prompts = context.config, context.prompt_format()
    distill = config.distill
    chains = "teach" not in step_names(distill)
    source = await asyncio.to_thread(
        record_source, config.data, questions, config.run.seed, prompts, chains=chains
    )
    return Pipeline(
        root=store_path(config),
        source=source,
        steps=all_steps(config),
        tools=machines.tools(teacher, prompts),
        matters=await asyncio.to_thread(matters, context, teacher, prompts),
    )


def all_steps(config: Config) -> list[tuple[str, Step]]:
    """The steps that are configured, and the compression behind them."""
    distill = config.distill
    compress = Compress(
        COMPRESSORS.build(distill.compressor.name, distill.compressor.params),
        ALLOCATIONS.build(distill.allocation.name, distill.allocation.params),
        distill.budgets_per_question,
        distill.compressor.writer,
    )
    return [*make_steps(distill.steps), ("compress", compress)]


def matters(context: Context, teacher: str, prompts: PromptFormat) -> dict[str, Any]:
    """What the outputs of steps may follow from; see `bard_ray.distill.step.FINGERPRINT_INPUTS`."""
    config = context.config
    backends = make_backends(config.distill.teachers)
    texts = [
        [question.id, [m.content for m in question.messages]]
        for question in eval_questions(config.data, config.run.seed)
    ]
    writer = config.distill.compressor.writer
    tokenizer = getattr(prompts.tokenizer, "backend_tokenizer", None)
    return {
        "seed": config.run.seed,
        "teacher": [teacher, digest(identity(backends[teacher]))] if teacher else None,
        "writer": digest(identity(backends[writer])) if writer else None,
        "student": _weights_digest(Path(context.weights_before("distill"))),
        "tokenizer": digest(
            [
                tokenizer.to_str() if tokenizer is not None else prompts.tokenizer.name_or_path,
                [prompts.think_open, prompts.think_close],
            ]
        ),
        "evaluation": digest(texts),
        "budgets": train_budgets(config.budget),
        "grading": dict(config.verifier.kinds),
    }


def _weights_digest(directory: Path) -> str:
    """Of the weights of a model directory."""
    hasher = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            hasher.update(hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()[:32]
