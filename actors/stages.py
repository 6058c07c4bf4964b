"""The stages of a run, in order.

Each one is a coroutine that turns what earlier stages left into its own output.

| stage | output |
|---|---|
| data | `data/base.jsonl` |
| distil | `data/sft.jsonl`, `data/sft_full.jsonl`, `data/report.html`; steps in `distil.store` |
| base, sft_full, sft | `checkpoints/<stage>/`: a Hugging Face model directory |
| rl | `checkpoints/rl/`, and `checkpoints/rl-state/` to go on from inside the stage |
| evaluate | `evals/<variant>.json` |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.golds import validate_golds
from actors.start import Deployment, Roles
from bard_ray.checkpoint import write_json
from bard_ray.config.distil import step_names
from bard_ray.config.schema import Config, SFTConfig
from bard_ray.data.questions import eval_questions
from bard_ray.distill.corpus import write_corpus
from bard_ray.errors import InvariantError
from bard_ray.evals.metrics import VariantSummary
from bard_ray.evals.sweep import evaluate_variant, forcing, make_plan
from bard_ray.learn.batching import num_sft_steps, sft_batches
from bard_ray.learn.schedule import warmup_cosine
from bard_ray.metrics import MetricsWriter
from bard_ray.progress import Progress
from bard_ray.roles import OptimSpec
from bard_ray.rundir import RunDirectory
from bard_ray.sft.loop import train_sft

if TYPE_CHECKING:
    from bard_ray.data.prompt import PromptFormat

Facts = dict[str, Any]


@dataclass
class Context:
    """What every stage works with."""

    config: Config
    run: RunDirectory
    metrics: MetricsWriter
    student: str  # model directory of the untrained student
    deployment: Deployment
    versions: int = 0  # weight versions handed out so far; each is given to one set of weights only

    @property
    def roles(self) -> Roles:
        """The roles, for a stage that said it needs them.

        Raises:
            InvariantError: it did not.
        """
        if self.deployment.roles is None:
            msg = "a stage asked for the roles without having said that it needs them"
            raise InvariantError(msg)
        return self.deployment.roles

    def next_version(self) -> int:
        """A weight version nobody has used: prefix-cache entries are salted with it."""
        self.versions += 1
        return self.versions

    def prompt_format(self) -> PromptFormat:
        """Tokenizer, chat template and budget codec of the student."""
        from bard_ray.data.prompt import load_prompt_format

        return load_prompt_format(self.student, self.config.student, self.config.budget.codec)

    def weights_before(self, stage: str) -> str:
        """Model directory a stage starts from.

        `rl` goes on from `sft`, the supervised stages from `base`.
        """
        parent = {"sft": "base", "sft_full": "base", "rl": "sft"}.get(stage)
        if parent is not None and self.run.is_done(parent):
            return str(self.run.checkpoint(parent).resolve())
        return self.student if parent != "sft" else self.weights_before("sft")


@dataclass(frozen=True)
class Stage:
    """One stage: `work` returns the facts recorded with it.

    A stage that needs no actors runs before any is started, so that bad data is found before
    anything expensive.
    """

    name: str
    title: str
    unit: str
    work: Callable[[Context, Progress], Awaitable[Facts]]
    needs_roles: bool = True


def stages_of(config: Config) -> list[Stage]:
    """The stages a configuration asks for."""
    from actors.distil import distil_stage
    from actors.rl_stage import rl_stage

    wanted = {
        "base": config.base.enabled,
        "sft_full": config.sft_full.enabled,
        "sft": config.sft.enabled,
        "rl": config.rl.enabled,
        "evaluate": config.evaluate.enabled,
    }
    all_stages = [
        Stage("data", "questions and gold answers", "", data_stage, needs_roles=False),
        Stage("base", "stand-in for a pretrained student", "step", _sft_stage("base")),
        Stage("distil", "teacher chains to budgets", "", distil_stage, needs_roles=False),
        Stage("sft_full", "comparison: full chains, no budgets", "step", _sft_stage("sft_full")),
        Stage("sft", "budget-aware SFT", "step", _sft_stage("sft")),
        Stage("rl", "asynchronous GRPO", "step", rl_stage),
        Stage("evaluate", "budget sweep", "", evaluate_stage),
    ]
    return [stage for stage in all_stages if wanted.get(stage.name, True)]


# --- data


async def data_stage(context: Context, progress: Progress) -> Facts:
    """Make sure that grading and RL can use the data; build the corpus of the stage `base`."""
    from actors.rl_stage import validate_draws
    from bard_ray.distill.corpus import base_corpus
    from bard_ray.distill.source import record_source

    config = context.config
    golds = await validate_golds(config)
    await asyncio.to_thread(validate_draws, config)
    if config.data.source == "rows":  # as the pipeline will read it, before anything is started
        chains = "teach" not in step_names(config.distil)
        questions, seed = config.distil.questions, config.run.seed
        prompts = context.prompt_format()
        await asyncio.to_thread(record_source, config.data, questions, seed, prompts, chains=chains)
    facts: Facts = {"golds": golds}
    if config.base.enabled:
        rows = await asyncio.to_thread(base_corpus, config.data, config.base.rows, config.run.seed)
        write_corpus(corpus_path(context.run, "base"), rows)
        facts["rows_base"] = len(rows)
    progress.update(1, 1, f"{facts.get('rows_base', golds):,} rows")
    return facts


def corpus_path(run: RunDirectory, name: str) -> Path:
    """File of a stage's corpus."""
    path = run.path / "data" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# --- supervised stages


def _sft_stage(name: str) -> Callable[[Context, Progress], Awaitable[Facts]]:
    async def work(context: Context, progress: Progress) -> Facts:
        return await sft_stage(context, progress, name)

    return work


async def sft_stage(context: Context, progress: Progress, name: str) -> Facts:
    """Train on one corpus from the weights of the stage before, and export."""
    from bard_ray.distill.corpus import read_corpus, to_sequences

    config: SFTConfig = getattr(context.config, name)
    rows = await asyncio.to_thread(read_corpus, corpus_path(context.run, name))
    sequences, dropped = await asyncio.to_thread(
        to_sequences, rows, context.prompt_format(), context.config.student.max_len
    )
    steps = num_sft_steps(len(sequences), config.batch_rows, config.epochs)
    progress.update(0, steps)
    learner = context.roles.learner
    await context.roles.learner_ready
    await learner.begin(context.weights_before(name), sft_optim(config))
    context.metrics.truncate_after(name, 0)

    async def on_step(step: int, values: Mapping[str, float]) -> None:
        context.metrics.write(name, step, values)
        progress.update(
            step,
            steps,
            f"loss {values['sft/loss']:.3f}  {values['sft/tokens_per_s'] / 1000:.1f}k tok/s",
        )

    batches = sft_batches(len(sequences), config.batch_rows, config.epochs, context.config.run.seed)

    def lr(step: int) -> float:
        return warmup_cosine(step, steps, config.warmup_steps, config.lr, config.min_lr_ratio)

    await train_sft(learner, sequences, batches, lr, on_step)
    await learner.export(str(context.run.checkpoint(name).resolve()))
    return {"steps": steps, "rows": len(sequences), "rows_too_long": dropped}


def sft_optim(config: SFTConfig) -> OptimSpec:
    """Optimizer of a supervised stage."""
    return OptimSpec((config.beta1, config.beta2), config.weight_decay, config.grad_clip)


# --- evaluation


async def evaluate_stage(context: Context, progress: Progress) -> Facts:
    """Sweep the budgets for every student this run has.

    A variant that was measured before is not measured again.
    """
    await context.roles.sampling_ready
    plan = make_plan(context.config.evaluate, context.config.run.seed)
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
