"""The whole of BARD in minutes on two CPU cores.

A student of 0.4 M parameters learns labeled-operation chains.

Nothing is a stand-in but the size: Ray actors, vLLM, DeepSpeed, the verifier pool and weight
syncing are those of the 8B recipe. The student has no pretraining, so a first stage (`base`)
teaches it the task without budgets. The teacher's chains take 30 to 42 tokens, so every budget is
shorter than most of them. Sizes and rates were found by measuring this task.

    python recipes/bard_tiny.py                      run it, or resume where it stopped
    python recipes/bard_tiny.py rl.max_lag=0         with another value
    python recipes/bard_tiny.py --dry-run            placement and memory plan only
"""

from __future__ import annotations

import sys

from bard_ray.config import schema as s

HELD_OUT = [7, 13, 21, 26]  # never taught: the evaluation shows what the student makes of them
TAUGHT = [budget for budget in range(4, 31) if budget not in HELD_OUT]
MEASURED = [4, 7, 8, 10, 12, 13, 16, 18, 20, 21, 24, 26, 30]
# The smoke test chooses between them: flawless; with slips and steps left out; with steps repeated.
TEACHERS = {
    "clean": {"backend": "exact"},
    "sloppy": {"backend": "exact", "slip": 0.05, "skip": 0.3},
    "verbose": {"backend": "exact", "recheck": 0.4, "wander": 0.4},
}
STEPS = [
    "teach",
    "grade",
    "correct",
    "think_tags",
    {"length": {"max_tokens": 64}},
    "near_duplicates",
    {"decontaminate": {"ngram": 64}},  # its questions look alike: only the very same one counts
]


def config() -> s.Config:
    """Configuration of the tiny run; whatever is not named here has the schema's default."""
    return s.Config(
        run=s.RunConfig(name="bard_tiny"),
        budget=s.BudgetConfig(codec="digits", train=TAUGHT, held_out=HELD_OUT),
        base=s.SFTConfig(rows=8000, batch_rows=32, lr=2e-3),
        sft_full=s.SFTConfig(
            rows=6000, batch_rows=32, lr=2e-3
        ),  # the comparison: full chains, no budgets
        distill=s.DistillConfig(
            # A few hundred questions, or 64 to measure with, cannot tell teachers apart.
            smoke=s.SmokeConfig(questions=1200, eval_questions=256),
            questions=10_500,
            teachers=TEACHERS,
            steps=STEPS,
            budgets_per_question=4,
        ),
        sft=s.SFTConfig(
            batch_rows=16, lr=2e-3
        ),  # twice the steps of 32 rows at the same cost, and a far better student
        # An answer takes 3 tokens; what goes beyond 16 is thinking in the wrong place.
        rl=s.RLConfig(
            steps=200,
            prompts_per_step=16,
            group_size=8,
            lr=4e-4,
            reward=s.RewardConfig(answer_limit=16),
        ),
        evaluate=s.EvalConfig(budgets=MEASURED),
        learner=s.LearnerConfig(
            zero_stage=0, pack_len=128
        ),  # the fastest of those measured at this size
        report=s.ReportConfig(title="BARD at tiny size"),
    )


if __name__ == "__main__":
    from actors.driver import main

    sys.exit(main(config()))
