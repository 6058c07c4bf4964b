"""Which precision of the weights goes with which ZeRO stage."""

from __future__ import annotations

from collections.abc import Iterator

from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import ConfigError


def precision_problems(learner: LearnerConfig) -> Iterator[ConfigError]:
    """Without ZeRO, bfloat16 weights would accumulate their gradients in bfloat16."""
    if learner.precision == "bfloat16" and learner.zero_stage == 0:
        rule = "bfloat16 weights keep their float32 masters in the ZeRO optimizer"
        fix = "Use 1 to 3, or learner.precision=bf16_autocast."
        yield ConfigError("learner.zero_stage", learner.zero_stage, rule, fix)
