"""The stages of a run, in order.

Each one is a coroutine that turns what earlier stages left into its own output.

| stage | output |
|---|---|
| data | `data/base.jsonl` |
| distill | `data/sft.jsonl`, `data/sft_full.jsonl`, `data/report.html`; steps in `distill.store` |
| base, sft_full, sft | `checkpoints/<stage>/`: a Hugging Face model directory |
| rl | `checkpoints/rl/`, and `checkpoints/rl-state/` to go on from inside the stage |
| evaluate | `evals/<variant>.json` |
"""

from __future__ import annotations

from actors.stages.context import Stage
from actors.stages.data import data_stage
from actors.stages.distill import distill_stage
from actors.stages.evaluate import evaluate_stage
from actors.stages.rl import rl_stage
from actors.stages.sft import supervised
from bard_ray.config.schema import Config


def stages_of(config: Config) -> list[Stage]:
    """The stages a configuration asks for."""
    wanted = {
        "base": config.base.enabled,
        "sft_full": config.sft_full.enabled,
        "sft": config.sft.enabled,
        "rl": config.rl.enabled,
        "evaluate": config.evaluate.enabled,
    }
    all_stages = [
        Stage("data", "questions and gold answers", "", data_stage, needs_roles=False),
        Stage("base", "stand-in for a pretrained student", "step", supervised("base")),
        Stage("distill", "teacher chains to budgets", "", distill_stage, needs_roles=False),
        Stage("sft_full", "comparison: full chains, no budgets", "step", supervised("sft_full")),
        Stage("sft", "budget-aware SFT", "step", supervised("sft")),
        Stage("rl", "asynchronous GRPO", "step", rl_stage),
        Stage("evaluate", "budget sweep", "", evaluate_stage),
    ]
    return [stage for stage in all_stages if wanted.get(stage.name, True)]
