"""Check, before any engine starts, that every gold answer of the data set can be graded."""

from __future__ import annotations

import asyncio

from bard_ray.config.schema import Config, RowsConfig
from bard_ray.data.rows import evaluation_rows, load_rows
from bard_ray.records import Question
from bard_ray.verify.kinds import register_kinds
from bard_ray.verify.process.grading import Setup, grade_once
from bard_ray.verify.validate import gold_items, gold_problems, require_gradable


def grading_setup(config: Config) -> Setup:
    """The set-up of every grading process: register the user's own kinds of answers."""
    return register_kinds, dict(config.verifier.kinds)


async def validate_golds(config: Config) -> int:
    """Grade every gold answer of a data set against itself; returns the number of answers.

    The synthetic task is skipped, since its answers are gradable by construction.

    Raises:
        DataError: some are not graded correct; the message lists the first of them.
    """
    if config.data.source == "chain":
        return 0
    questions = await asyncio.to_thread(_questions, config.data.rows)
    limits = config.verifier
    verdicts = await grade_once(
        gold_items(questions), limits.limit_s, limits.memory_mb, grading_setup(config)
    )
    require_gradable(config.data.rows.path, len(questions), gold_problems(questions, verdicts))
    return len(questions)


def _questions(rows: RowsConfig) -> list[Question]:
    """The questions of training and evaluation."""
    sources = [load_rows(rows, need_chains=False)]
    if rows.eval_path:
        sources.append(load_rows(evaluation_rows(rows), need_chains=False))
    return [row.question for source in sources for row in source]
