"""Busy share of the engine in an asynchronous run whose bottleneck is generation.

    python -m benchmarks.utilization [--steps 60] [--rounds 3] [--json FILE] [field=value ...]

The engine is made the bottleneck: 64 sequences at a time, no reference policy, a window of four
steps. It counts as busy while it steps or takes requests on. The first steps, and the last ones, in
which nothing is left to ask for, are left out. `stall_share` is what loading weights took of a step
and part of the rest. The last line printed is one JSON object; `ratio` is the busy share.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from pathlib import Path

from actors.cluster.env import apply_driver_env
from bard_ray.config.load import load
from bard_ray.config.schema import Config
from benchmarks.async_step import Bench, roles_up
from benchmarks.common import finish, machine, trained_student
from recipes.bard_tiny import config as recipe

TARGET = 0.95
GENERATION_BOUND = [
    "rollout.max_num_seqs=64",
    "rl.max_lag=3",
    "rl.prompts_per_step=8",
    "rl.kl_coef=0",
]


async def measure(config: Config, model: str, rounds: int) -> list[dict[str, float]]:
    """Figures of every round."""
    results = []
    async with roles_up(config, model) as roles:
        bench = Bench(config, roles, model)
        for number in range(rounds):
            run = await bench.loop(config.rl.max_lag)
            results.append(run | {"stall_share": run["stall_s"] / run["step_s"]})
            print(f"round {number + 1}: " + "  ".join(f"{k} {v:.3f}" for k, v in run.items()))
    return results


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", help="model directory; default: a short student, made once")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one round of 15 steps")
    args = parser.parse_intermixed_args()
    if args.quick:
        args.rounds, args.steps = 1, 15
    facts, model = machine(), args.model or trained_student()
    apply_driver_env()
    overrides = [*GENERATION_BOUND, f"rl.steps={args.steps}", *args.overrides]
    results = asyncio.run(measure(load(recipe(), overrides), model, args.rounds))
    medians = {name: round(statistics.median(r[name] for r in results), 4) for name in results[0]}
    ratio = {"target": TARGET, "ratio": medians["busy_share"]}
    finish(
        {"benchmark": "utilization", **facts, **ratio, **medians, "overrides": overrides}, args.json
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
