"""Speed of the RL phase of the tiny recipe, and the time of its parts.

    python -m benchmarks.rl_loop [--steps 40] [--max-lag 1] [--json FILE] [field=value ...]

Runs the RL stage of the recipe from a short-lived student (a few hundred supervised steps, so that
groups have reward variance; trained once and kept), and reads its metrics. The first `WARM` steps
are left out, but for `engine_busy_share`, which covers the whole stage. `samples_per_s` and
`tokens_per_s` count what was trained on, `tokens_sampled_per_s` zero-variance groups too.
`seconds_per_step` are medians: the learner waits, trains or publishes, one after the other.
`group_s` are mean seconds a group spent in each role, which overlap with the learner and with each
other. The last line printed is one JSON object; `ratio` is the share of a step in which the learner
trains.
"""

from __future__ import annotations

import statistics
import sys

from benchmarks.common import Arguments, Benchmark, Option, Record, require_steps
from benchmarks.student import MODEL, RLRun, run_rl, student_path

WARM = 5
STEP_PARTS = ("step", "wait", "train", "publish", "transfer", "stall")
GROUP_PARTS = ("generate", "grade", "reference")


def measure(arguments: Arguments) -> RLRun:
    """One RL stage."""
    require_steps(arguments.steps, WARM)
    sizes = [f"rl.steps={arguments.steps}", f"rl.max_lag={arguments.max_lag}"]
    return run_rl(student_path(arguments.model), *sizes, *arguments.overrides)


def summarize(run: RLRun) -> Record:
    """Throughput over all steps but the first ones, and medians of what a step consists of."""
    steps = run.steps[WARM:]
    wall_s = sum(step["time/step_s"] for step in steps)

    def total(name: str) -> float:
        return float(sum(step[name] for step in steps))

    def median(part: str) -> float:
        values = [step[f"time/{part}_s"] for step in steps if f"time/{part}_s" in step]
        return round(statistics.median(values), 4)

    zero_variance = total("rl/groups_zero_variance") / total("rl/groups_trained")
    seconds = {part: median(part) for part in STEP_PARTS}
    return {
        "ratio": round(seconds["train"] / seconds["step"], 4),
        "samples_per_s": round(total("rl/samples_per_s") / len(steps), 1),
        "tokens_per_s": round(total("rl/tokens") / wall_s, 1),
        "tokens_sampled_per_s": round(total("rl/tokens") * (1 + zero_variance) / wall_s, 1),
        "engine_busy_share": run.facts["engine_busy_share"],
        "zero_variance_groups_per_trained": round(zero_variance, 3),
        "lag_mean": round(total("rl/lag_mean") / len(steps), 3),
        "seconds_per_step": seconds,
        "group_s": {part: median(part) for part in GROUP_PARTS},
    }


def render(record: Record) -> str:
    """Rates, then the parts of the time of a step and of a group."""
    rates = ("samples_per_s", "tokens_per_s", "tokens_sampled_per_s", "engine_busy_share")
    lines = [f"{name:22}{record[name]:10,.2f}" for name in rates]
    for title, part in (("step", "seconds_per_step"), ("group", "group_s")):
        parts = "  ".join(f"{name} {seconds:.3f}" for name, seconds in record[part].items())
        lines.append(f"{'seconds of a ' + title:22}  {parts}")
    return "\n".join(lines)


OPTIONS = (Option("steps", 40, 10), Option("max_lag", 1), MODEL)
BENCHMARK = Benchmark("rl_loop", __doc__, measure, summarize, render, OPTIONS, overrides=True)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
