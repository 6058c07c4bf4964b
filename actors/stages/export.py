"""The export of a run: its student as a Hugging Face model directory with a model card."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from bard_ray.checkpoint import MANIFEST, described_directory
from bard_ray.config.schema import Config
from bard_ray.report.model_card import write_model_card
from bard_ray.report.results import Results
from bard_ray.rundir import RunDirectory

# The last stage that trained the budget-aware student.
STUDENTS = ("rl", "sft")


def export_student(run: RunDirectory, config: Config, results: Results) -> Path | None:
    """Write `export/`; None where no budget-aware student was trained."""
    stage = next((name for name in STUDENTS if run.is_done(name)), None)
    if stage is None:
        return None
    if stage == "rl":  # a run that was finished early has other steps than it asks for
        config = replace(config, rl=replace(config.rl, steps=run.facts("rl")["steps"]))
    source, target = run.checkpoint(stage), run.path / "export"
    with described_directory(target, stage=stage) as aside:
        shutil.copytree(source, aside, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        write_model_card(
            aside, config, results, _example_prompt(str(source), config), variant=stage
        )
    return target


def _example_prompt(model_path: str, config: Config) -> str:
    """One whole prompt as the student was trained on it."""
    from bard_ray.data.prompt import load_prompt_format
    from bard_ray.data.questions import eval_questions
    from bard_ray.records import TokenBudget

    prompts = load_prompt_format(model_path, config.student, config.budget.codec)
    budget = TokenBudget(sorted(config.evaluate.budgets)[len(config.evaluate.budgets) // 2])
    return prompts.prompt_text(eval_questions(config.data, config.run.seed)[0], budget)
