"""Busy share of the engine in an asynchronous run whose bottleneck is generation.

    python -m benchmarks.utilization [--steps 60] [--rounds 3] [--json FILE] [field=value ...]

The engine is made the bottleneck: 64 sequences at a time, no reference policy, a window of four
steps. It counts as busy while it steps or adds requests. The first steps are left out, and the last
ones, in which nothing is left to ask for. `stall_share` is the part of a step in which loading
weights kept the engine from stepping. The last line printed is one JSON object; `ratio` is the busy
share.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from bard_ray.config.load import load
from bard_ray.config.schema import Config
from benchmarks.cluster import all_roles
from benchmarks.common import Arguments, Benchmark, Option, Record, medians
from benchmarks.live_loop import LiveLoop, LoopRun
from benchmarks.student import MODEL, student_path
from recipes.bard_tiny import config as recipe

GENERATION_BOUND = [
    "rollout.max_num_seqs=64",
    "rl.max_lag=3",
    "rl.prompts_per_step=8",
    "rl.kl_coef=0",
]


def measure(arguments: Arguments) -> list[LoopRun]:
    """One run of the loop a round."""
    overrides = [*GENERATION_BOUND, f"rl.steps={arguments.steps}", *arguments.overrides]
    config = load(recipe(), overrides)
    return asyncio.run(run_rounds(config, student_path(arguments.model), arguments.rounds))


async def run_rounds(config: Config, model: str, rounds: int) -> list[LoopRun]:
    """Rounds on one set of actors."""
    async with all_roles(config, model) as roles:
        loop = LiveLoop(config, roles, model)
        return [await loop.run(config.rl.max_lag) for _ in range(rounds)]


def summarize(rounds: Sequence[LoopRun]) -> Record:
    """Medians over rounds, and every round."""
    rows = [
        {
            "busy_share": run.busy_share,
            "stall_share": run.stall_s / run.step_s,
            "step_s": run.step_s,
            "stall_s": run.stall_s,
            "tokens": run.tokens,
        }
        for run in rounds
    ]
    figures = medians(rows)
    by_round = [{name: round(value, 4) for name, value in row.items()} for row in rows]
    return {"ratio": figures["busy_share"], **figures, "by_round": by_round}


def render(record: Record) -> str:
    """One line a round, and the medians."""
    columns = ("busy_share", "stall_share", "step_s", "stall_s", "tokens")
    lines = [f"{'':8}" + "".join(f"{column:>14}" for column in columns)]
    for name, row in [*enumerate(record["by_round"], start=1), ("median", record)]:
        lines.append(f"{name:<8}" + "".join(f"{row[column]:14.4g}" for column in columns))
    return "\n".join(lines)


OPTIONS = (Option("steps", 60, 15, "of a round"), Option("rounds", 3, 1), MODEL)
BENCHMARK = Benchmark(
    "utilization", __doc__, measure, summarize, render, OPTIONS, target=0.95, overrides=True
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
