"""The stage `distil`: from questions to the supervised corpora, and a report on them."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.machines import Machines
from bard_ray.budget.sampler import train_budgets
from bard_ray.config.distil import step_names
from bard_ray.data.questions import eval_questions
from bard_ray.distill.compressor import COMPRESSORS, SPREADS
from bard_ray.distill.corpus import budget_corpus, natural_corpus, write_corpus
from bard_ray.distill.identity import digest, identity
from bard_ray.distill.pipeline import Pipeline
from bard_ray.distill.select import make_steps
from bard_ray.distill.source import record_source
from bard_ray.distill.steps.compress import Compress
from bard_ray.distill.teacher import make_backends

if TYPE_CHECKING:
    from actors.plan import RoleName
    from actors.stages import Context, Facts
    from bard_ray.config.schema import Config
    from bard_ray.data.prompt import PromptFormat
    from bard_ray.distill.step import Step
    from bard_ray.progress import Progress


async def distil_stage(context: Context, progress: Progress) -> Facts:
    """Make the corpora of the stages `sft_full` and `sft`."""
    from actors.stages import corpus_path

    config, prompts = context.config, context.prompt_format()
    teacher = config.distil.teacher or next(iter(config.distil.teachers), "")
    machines = Machines(context, roles_needed(config), store_path(config) / "replies")

    def on_progress(share: float, at_work: str) -> None:
        progress.update(int(1000 * share), 1000, at_work)

    try:
        pipeline = await build_pipeline(context, machines, teacher, prompts)
        pipeline.on_progress = on_progress
        done = await pipeline.run()
    finally:
        await machines.close()
    natural, compressed = await asyncio.to_thread(
        lambda: (list(pipeline.records(after=-2)), list(pipeline.records()))
    )
    rows = budget_corpus(compressed, natural, config.budget.none_share, config.run.seed)
    write_corpus(corpus_path(context.run, "sft"), rows)
    full = natural_corpus(natural, config.sft_full.rows)
    write_corpus(corpus_path(context.run, "sft_full"), full)
    progress.update(1000, 1000, f"{len(rows):,} rows, {len(config.budget.train)} budgets")
    return {
        "rows_sft": len(rows),
        "rows_sft_full": len(full),
        "teacher": teacher,
        "steps": [asdict(facts) for facts in done],
    }


def store_path(config: Config) -> Path:
    """Where steps keep their outputs."""
    return Path(config.distil.store) if config.distil.store else Path(config.run.dir) / "distil"


def roles_needed(config: Config) -> set[RoleName]:
    """Roles that the steps of a configuration may ask for."""
    names = step_names(config.distil)
    roles: set[RoleName] = {"verifier"}
    if "sample_student" in names:
        roles.add("rollout")
    if "likelihoods" in names:
        roles.add("reference")
    return roles


async def build_pipeline(
    context: Context, machines: Machines, teacher: str, prompts: PromptFormat
) -> Pipeline:
    """The pipeline of a configuration, for the chains of one teacher."""
    config = context.config
    distil = config.distil
    chains = "teach" not in step_names(distil)
    source = await asyncio.to_thread(
        record_source, config.data, distil.questions, config.run.seed, prompts, chains=chains
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
    distil = config.distil
    compress = Compress(
        COMPRESSORS.build(distil.compressor.name, distil.compressor.params),
        SPREADS.build(distil.spread.name, distil.spread.params),
        distil.budgets_per_question,
        distil.compressor.writer,
    )
    return [*make_steps(distil.steps), ("compress", compress)]


def matters(context: Context, teacher: str, prompts: PromptFormat) -> dict[str, Any]:
    """What the outputs of steps may follow from; see `bard_ray.distill.step.MATTERS`."""
    config = context.config
    backends = make_backends(config.distil.teachers)
    texts = [
        [question.id, [m.content for m in question.messages]]
        for question in eval_questions(config.data, config.run.seed)
    ]
    writer = config.distil.compressor.writer
    tokenizer = getattr(prompts.tokenizer, "backend_tokenizer", None)
    return {
        "seed": config.run.seed,
        "teacher": [teacher, digest(identity(backends[teacher]))] if teacher else None,
        "writer": digest(identity(backends[writer])) if writer else None,
        "student": _weights_digest(Path(context.weights_before("sft"))),
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
