"""The exported student: a Hugging Face model directory with a model card.

Weights and tokenizer are those of the last stage. The chat template is the one used in training, so
`apply_chat_template` and a server's chat endpoint build the prompts the student was trained on.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bard_ray.checkpoint import MANIFEST, described_directory
from bard_ray.config.schema import Config
from bard_ray.report.example import ExampleRequest
from bard_ray.report.model_card import write_model_card
from bard_ray.report.results import Results
from bard_ray.rundir import RunDirectory

if TYPE_CHECKING:
    from bard_ray.data.prompt import PromptFormat

# The last stage that trained the budget-aware student.
STUDENTS = ("rl", "sft")


def export_student(run: RunDirectory, config: Config, results: Results) -> Path | None:
    """Write `export/` and return its path; None if no budget-aware student was trained."""
    from bard_ray.data.chat_files import write_chat_templates, write_generation_config
    from bard_ray.data.prompt import load_prompt_format

    stage = next((name for name in STUDENTS if run.is_done(name)), None)
    if stage is None:
        return None
    if stage == "rl":  # a run finished early has a different step count
        config = replace(config, rl=replace(config.rl, steps=run.facts("rl")["steps"]))
    source, target = run.checkpoint(stage), run.path / "export"
    prompts = load_prompt_format(str(source), config.student, config.budget.codec)
    with described_directory(target, stage=stage) as aside:
        shutil.copytree(source, aside, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        write_chat_templates(aside, prompts.templates)
        write_generation_config(aside, prompts.eos_id, config.evaluate.temperature)
        write_model_card(aside, config, results, _example(prompts, config), variant=stage)
    return target


def _example(prompts: PromptFormat, config: Config) -> ExampleRequest:
    """The shortest evaluation question, as messages and as a prompt.

    Its budget is the middle one of the evaluation, or of the training where nothing is evaluated.
    """
    from bard_ray.data.questions import eval_questions
    from bard_ray.records import TokenBudget

    questions = eval_questions(config.data, config.run.seed)
    question = min(questions, key=lambda q: sum(len(m.content) for m in q.messages))
    budgets = sorted(config.evaluate.budgets or config.budget.train)
    budget = TokenBudget(budgets[len(budgets) // 2])
    messages = prompts.messages(question, budget)
    return ExampleRequest(messages, prompts.prompt_text(question, budget))
