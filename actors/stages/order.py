"""The stages of a run: their order, their dependencies, and which of them a configuration needs.

Each stage is a coroutine that turns the outputs of earlier stages into its own output.

| stage | output |
|---|---|
| data | `data/base.jsonl` |
| distill | `data/sft.jsonl`, `data/sft_full.jsonl`, `data/report.html`; steps in `distill.store` |
| base, sft_full, sft | `checkpoints/<stage>/`: a Hugging Face model directory |
| rl | `checkpoints/rl/`, and `checkpoints/rl-state/` to resume inside the stage |
| evaluate | `evals/<variant>.json` |

A run has goals: a trained student (`sft`, `rl`) and its evaluation (`evaluate`), or only the corpus
if `run.goal=corpus`. Every other stage runs only if a goal uses its output, directly or through
stages in between.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.stages.context import STARTS_FROM, Stage
from actors.stages.data import data_stage
from actors.stages.distill import distill_stage
from actors.stages.evaluate import evaluate_stage
from actors.stages.rl import checkpoint_step, rl_stage
from actors.stages.sft import supervised
from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError
from bard_ray.preflight.needs import uses_student
from bard_ray.rundir import RunDirectory


def stages_of(config: Config) -> list[Stage]:
    """The stages that a configuration needs, in order.

    Raises:
        ConfigError: the configuration needs no stage.
    """
    stages = all_stages(config)
    needed = _needed({stage.name: stage for stage in stages})
    if not needed:
        rule = "leaves nothing to do, since sft, rl and evaluate are disabled"
        fix = "Enable one of them, or set run.goal=corpus to make the training data only."
        raise ConfigError("run.goal", config.run.goal, rule, fix)
    return [stage for stage in stages if stage.name in needed]


def all_stages(config: Config) -> list[Stage]:
    """All stages in order, with their dependencies."""
    student = config.run.goal == "student"

    def training(name: str, title: str, *reads: str, goal: bool = False) -> Stage:
        enabled, parent = getattr(config, name).enabled, STARTS_FROM.get(name, "")
        return Stage(name, title, "step", supervised(name), enabled, goal, reads, parent)

    return [
        Stage("data", "questions and gold answers", "", data_stage, needs_roles=False),
        training("base", "stand-in for a pretrained student", "data"),
        Stage(
            "distill",
            "teacher chains to budgets",
            "",
            distill_stage,
            goal=not student,
            reads=("data",),
            starts_from=STARTS_FROM["distill"] if uses_student(config) else "",
            needs_roles=False,
        ),
        training("sft_full", "comparison: full chains, no budgets", "distill"),
        training("sft", "budget-aware SFT", "distill", goal=student),
        Stage(
            "rl",
            "asynchronous GRPO",
            "step",
            rl_stage,
            config.rl.enabled,
            goal=student,
            reads=("data",),
            starts_from=STARTS_FROM["rl"],
        ),
        Stage(
            "evaluate",
            "budget sweep",
            "",
            evaluate_stage,
            config.evaluate.enabled,
            goal=student,
            reads=("data", "sft_full", "sft", "rl"),
            starts_from=STARTS_FROM["evaluate"],
        ),
    ]


def resume_point(run: RunDirectory, config: Config) -> str:
    """Describe where the same command would resume."""
    left = [stage.name for stage in stages_of(config) if not run.is_done(stage.name)]
    if not left:
        return "the report"
    step = checkpoint_step(run) if left[0] == "rl" else None
    return f"stage {left[0]}" if step is None else f"step {step} of stage {left[0]}"


def _needed(stages: Mapping[str, Stage]) -> set[str]:
    """Names of the enabled stages that the goals use, including the goals.

    Weights pass through a disabled stage: a stage that would start from it starts from its
    predecessor. Other inputs of a disabled stage are not needed.
    """
    needed: set[str] = set()
    visit = [stage for stage in stages.values() if stage.goal and stage.enabled]
    while visit:
        stage = visit.pop()
        if stage.starts_from:
            visit.append(stages[stage.starts_from])
        if stage.enabled and stage.name not in needed:
            needed.add(stage.name)
            visit += [stages[name] for name in stage.reads if stages[name].enabled]
    return needed
