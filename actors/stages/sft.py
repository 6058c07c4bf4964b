"""The supervised stages: `base`, `sft_full` and `sft`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from actors.stages.context import Context, Facts, corpus_path
from bard_ray.config.schema import SFTConfig
from bard_ray.distill.corpus import read_corpus, to_sequences
from bard_ray.learn.batching import num_sft_steps, sft_batches
from bard_ray.learn.schedule import warmup_cosine
from bard_ray.learn.spec import OptimSpec
from bard_ray.progress import Progress
from bard_ray.sft.loop import train_sft


def supervised(name: str) -> Callable[[Context, Progress], Awaitable[Facts]]:
    """The coroutine of one supervised stage; `name` is its section in the configuration."""

    async def work(context: Context, progress: Progress) -> Facts:
        return await sft_stage(context, progress, name)

    return work


async def sft_stage(context: Context, progress: Progress, name: str) -> Facts:
    """Train on one corpus from the weights of the previous stage, and export."""
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
