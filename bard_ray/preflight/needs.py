"""What the stages of a run need, from its configuration alone.

`actors.stages.order` derives the stages from what each one uses; the answers here agree with it.
"""

from __future__ import annotations

from bard_ray.config.schema import Config
from bard_ray.distill.build_steps import inputs_of, pipeline_steps
from bard_ray.distill.teacher import candidates


def trains(config: Config) -> bool:
    """Whether a stage, or the smoke test of several teachers, trains a model."""
    if config.run.goal == "student":
        compared = config.sft_full.enabled and config.evaluate.enabled
        return config.base.enabled or config.sft.enabled or config.rl.enabled or compared
    return has_smoke_test(config) or (config.base.enabled and uses_student(config))


def runs_rl(config: Config) -> bool:
    """Whether there is an RL stage."""
    return config.rl.enabled and config.run.goal == "student"


def evaluates(config: Config) -> bool:
    """Whether there is a budget sweep of the run's students."""
    return config.evaluate.enabled and config.run.goal == "student"


def builds_corpus(config: Config) -> bool:
    """Whether the pipeline of `distill` runs."""
    compared = config.sft_full.enabled and config.evaluate.enabled
    return config.run.goal == "corpus" or config.sft.enabled or compared


def has_smoke_test(config: Config) -> bool:
    """Whether a student of each teacher is trained and measured to choose between them."""
    return builds_corpus(config) and len(candidates(config.distill)) > 1


def uses_student(config: Config) -> bool:
    """Whether the corpus depends on the student's weights.

    They are sampled or scored by a step, or trained in the smoke test of several teachers.

    Raises:
        ConfigError: a plug-in of the pipeline cannot be built.
    """
    steps = (step for _, step in pipeline_steps(config.distill))
    sampled_or_scored = any("student" in inputs_of(step) for step in steps)
    return sampled_or_scored or len(candidates(config.distill)) > 1
