"""The stage `data`: check that grading and RL can use the data before any actor starts."""

from __future__ import annotations

import asyncio

from actors.stages.context import Context, Facts, corpus_path
from actors.stages.rl import validate_draws
from actors.verifier.golds import validate_golds
from bard_ray.distill.build_steps import writes_chains
from bard_ray.distill.corpus import base_corpus, write_corpus
from bard_ray.distill.source import record_source
from bard_ray.progress import Progress


async def data_stage(context: Context, progress: Progress) -> Facts:
    """Check that grading and RL can use the data; build the corpus of the stage `base`."""
    config = context.config
    golds = await validate_golds(config)
    await asyncio.to_thread(validate_draws, config)
    if config.data.source == "rows":  # as the pipeline will read it, before anything is started
        chains = not writes_chains(config.distill)
        questions, seed = config.distill.questions, config.run.seed
        prompts = context.prompt_format()
        await asyncio.to_thread(record_source, config.data, questions, seed, prompts, chains=chains)
    facts: Facts = {"golds": golds}
    if config.base.enabled:
        rows = await asyncio.to_thread(base_corpus, config.data, config.base.rows, config.run.seed)
        write_corpus(corpus_path(context.run, "base"), rows)
        facts["rows_base"] = len(rows)
    progress.update(1, 1, f"{facts.get('rows_base', golds):,} rows")
    return facts
