"""The stage `distill`: from questions to the supervised corpora, and a report on them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.stages.resources import PipelineResources
from actors.stages.select_teacher import select_teacher
from bard_ray.budget.sampler import train_budgets
from bard_ray.data.questions import eval_questions
from bard_ray.distill.acceptance import AcceptanceTable
from bard_ray.distill.build_steps import (
    pipeline_steps,
    reports_diversity,
    required_roles,
    writes_chains,
)
from bard_ray.distill.contrast import contrast_share, contrast_warning, questions_by_budgets
from bard_ray.distill.corpus import budget_corpus, natural_corpus, write_corpus
from bard_ray.distill.identity import digest, identity
from bard_ray.distill.pipeline import Pipeline
from bard_ray.distill.source import record_source, tokenizer_digest
from bard_ray.distill.teacher import make_backends
from bard_ray.records import DistillRow, token_limit
from bard_ray.report.data_facts import DataReport, diversity, examples, lengths_by_budget
from bard_ray.report.data_report import write_data_report

if TYPE_CHECKING:
    from actors.stages.context import Context, Facts
    from bard_ray.config.schema import Config
    from bard_ray.data.prompt import PromptFormat
    from bard_ray.distill.filter import Candidate
    from bard_ray.progress import Progress

EXAMPLES = 3  # questions that the report shows with all of their chains


async def distill_stage(context: Context, progress: Progress) -> Facts:
    """Select the teacher if there are several, then build the corpora of `sft_full` and `sft`."""
    from actors.stages.context import corpus_path

    config, started = context.config, time.monotonic()
    roles_were_running = context.deployment.roles is not None
    replies = store_path(config) / "replies"
    resources = PipelineResources(context, required_roles(config.distill), replies)

    async def build(teacher: str, questions: int) -> Pipeline:
        return await build_pipeline(context, resources, teacher, questions)

    try:
        teacher, choice = await select_teacher(
            context, resources, store_path(config), build, progress
        )
        if not roles_were_running:  # the learner's devices may be needed to serve the teacher
            await context.deployment.stop()
        pipeline = await build(teacher, config.distill.questions)
        pipeline.on_progress = lambda share, step: progress.update(int(1000 * share), 1000, step)
        steps = await pipeline.run()
    finally:
        await resources.close()
        if not roles_were_running:
            await context.deployment.stop()
    output = await asyncio.to_thread(collect, pipeline)
    rows: list[DistillRow] = []
    try:
        share = config.budget.none_share
        rows = budget_corpus(output.compressed, output.natural, share, config.run.seed)
    finally:  # if no chain is left, the report shows which step dropped them
        wall_s, counters = time.monotonic() - started, resources.counters()
        report = DataReport(config.run.name, wall_s, steps=steps, choice=choice, teachers=counters)
        await asyncio.to_thread(write_report, context, output, rows, report)
    write_corpus(corpus_path(context.run, "sft"), rows)
    full = natural_corpus(output.natural, config.sft_full.rows)
    write_corpus(corpus_path(context.run, "sft_full"), full)
    contrast = questions_by_budgets(rows)
    of = f" from {teacher}" if choice is not None else ""
    low = ", almost no contrast (see the data report)" if contrast_warning(contrast) else ""
    progress.update(1000, 1000, f"{len(rows):,} rows, {len(config.budget.train)} budgets{of}{low}")
    return {
        "rows_sft": len(rows),
        "rows_sft_full": len(full),
        "teacher": teacher,
        "contrast": round(contrast_share(contrast), 4),
    }


@dataclass(frozen=True)
class PipelineOutput:
    """Records of a finished pipeline.

    Attributes:
        natural: chains before the compression.
        compressed: chains at their budgets.
        acceptance: all results of the compression, including failed ones.
        diversity_pool: chains before the first filter that reports diversity; empty without one.
        diverse: chains after that filter.
    """

    natural: list[Candidate]
    compressed: list[Candidate]
    acceptance: AcceptanceTable
    diversity_pool: list[Candidate]
    diverse: list[Candidate]


def collect(pipeline: Pipeline) -> PipelineOutput:
    """Read the records of a finished pipeline from which corpora and report are built."""
    acceptance = AcceptanceTable()
    for record, reason in pipeline.results():
        acceptance.add(
            token_limit(record.budget) or 0, record.tokens_T.size, reason, record.attempts
        )
    diverse = [i for i, node in enumerate(pipeline.nodes) if reports_diversity(node.step)]
    return PipelineOutput(
        natural=list(pipeline.records(after=len(pipeline.nodes) - 1)),
        compressed=list(pipeline.records()),
        acceptance=acceptance,
        diversity_pool=list(pipeline.records(after=diverse[0])) if diverse else [],
        diverse=list(pipeline.records(after=diverse[0] + 1)) if diverse else [],
    )


def write_report(
    context: Context, output: PipelineOutput, rows: list[DistillRow], report: DataReport
) -> Path:
    """Write `data/report.html` and the same figures as JSON, and return the path of the page.

    Args:
        context: context of the run.
        output: records of the pipeline.
        rows: rows of `data/sft.jsonl`.
        report: facts of how the corpus was built; the facts of its contents are added here.
    """
    count = context.prompt_format().count_tokens
    sampled = {r.question.id: r.pass_rate for r in output.natural if r.pass_rate is not None}
    report = replace(
        report,
        questions=len({row.question.id for row in rows}),
        lengths=lengths_by_budget(rows, count),
        contrast=questions_by_budgets(rows),
        acceptance=output.acceptance,
        pass_rates=list(sampled.values()),
        diversity=diversity(output.diverse, output.diversity_pool),
        examples=examples(rows, count, EXAMPLES),
    )
    path = context.run.path / "data" / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_data_report(path, report)


def store_path(config: Config) -> Path:
    """Directory in which steps store their outputs."""
    return Path(config.distill.store) if config.distill.store else Path(config.run.dir) / "distill"


async def build_pipeline(
    context: Context, resources: PipelineResources, teacher: str, questions: int
) -> Pipeline:
    """Build the pipeline of a configuration for the chains of one teacher."""
    config, prompts = context.config, context.prompt_format()
    chains = not writes_chains(config.distill)
    source = await asyncio.to_thread(
        record_source, config.data, questions, config.run.seed, prompts, chains=chains
    )
    return Pipeline(
        root=store_path(config),
        source=source,
        steps=pipeline_steps(config.distill),
        tools=resources.tools(teacher, prompts),
        fingerprint_inputs=await asyncio.to_thread(fingerprint_inputs, context, teacher, prompts),
    )


def fingerprint_inputs(context: Context, teacher: str, prompts: PromptFormat) -> dict[str, Any]:
    """Values of `bard_ray.distill.traits.FINGERPRINT_INPUTS` for this run."""
    config = context.config
    backends = make_backends(config.distill.teachers)
    texts = [
        [question.id, [m.content for m in question.messages]]
        for question in eval_questions(config.data, config.run.seed)
    ]
    writer = config.distill.compressor.writer
    return {
        "seed": config.run.seed,
        "teacher": [teacher, digest(identity(backends[teacher]))] if teacher else None,
        "writer": digest(identity(backends[writer])) if writer else None,
        "student": _weights_digest(Path(context.weights_before("distill"))),
        "tokenizer": tokenizer_digest(prompts),
        "evaluation": digest(texts),
        "budgets": train_budgets(config.budget),
        "grading": dict(config.verifier.kinds),
    }


def _weights_digest(directory: Path) -> str:
    """Digest of the weights of a model directory."""
    hasher = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            hasher.update(hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()[:32]
