"""How fast the RL phase of the tiny recipe runs, and where its time goes.

    python -m benchmarks.rl_loop [--steps 40] [--max-lag 1] [--json FILE] [field=value ...]

Takes a short-lived student (a few hundred supervised steps, so that groups have reward variance;
trained once and kept), then runs the RL stage through the recipe's own driver and reads its
metrics. The first `WARM` steps are left out, but for `engine_busy_share`, which covers the stage.
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from actors.driver import main as run_recipe
from bard_ray.metrics import read_metrics
from benchmarks.common import finish, machine, trained_student
from recipes.bard_tiny import config

WARM = 5
ONLY_RL = [f"{name}.enabled=false" for name in ("base", "sft_full", "sft", "evaluate")]


def measure(run_dir: Path) -> dict[str, object]:
    """Throughput over all steps but the first ones.

    And seconds per step by what the learner was doing.

    Returns:
        `samples_per_s` and `tokens_per_s` count what was trained on; `tokens_sampled_per_s` counts
        zero-variance groups too. `seconds_per_step` are medians: the learner waits, trains or
        publishes, one after the other. `group_s` are mean seconds a group spent in each role, which
        overlap with the learner and each other.
    """
    steps = [r for r in read_metrics(run_dir / "metrics.jsonl") if r["stage"] == "rl"][WARM:]
    wall_s = sum(r["time/step_s"] for r in steps)
    facts = json.loads((run_dir / "state.json").read_text())["stages"]["rl"]["facts"]

    def total(name: str) -> float:
        return float(sum(r[name] for r in steps))

    def median(name: str) -> float:
        return round(statistics.median(r[name] for r in steps if name in r), 4)

    zero_variance = total("rl/groups_zero_variance")
    sampled = 1 + zero_variance / total("rl/groups_trained")
    return {
        "samples_per_s": round(total("rl/samples_per_s") / len(steps), 1),
        "tokens_per_s": round(total("rl/tokens") / wall_s, 1),
        "tokens_sampled_per_s": round(total("rl/tokens") * sampled / wall_s, 1),
        "engine_busy_share": facts["engine_busy_share"],
        "flat_groups_per_trained": round(sampled - 1, 3),
        "lag_mean": round(total("rl/lag_mean") / len(steps), 3),
        "seconds_per_step": {
            k: median(f"time/{k}_s")
            for k in ("step", "wait", "train", "publish", "transfer", "stall")
        },
        "group_s": {k: median(f"time/{k}_s") for k in ("generate", "grade", "reference")},
    }


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--max-lag", type=int, default=1)
    parser.add_argument("--model", help="model directory; default: a short student, made once")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="10 steps")
    args = parser.parse_intermixed_args()
    steps = 10 if args.quick else args.steps
    facts, model = machine(), args.model or trained_student()
    with tempfile.TemporaryDirectory() as directory:
        where = [f"run.dir={directory}", "run.name=rl_loop", f"student.path={model}"]
        sizes = [f"rl.steps={steps}", f"rl.max_lag={args.max_lag}"]
        code = run_recipe(config(), [*ONLY_RL, *where, *sizes, *args.overrides])
        if code:
            return code
        figures = measure(Path(directory) / "rl_loop")
    overrides = [*sizes, *args.overrides]
    finish({"benchmark": "rl_loop", **facts, **figures, "overrides": overrides}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
