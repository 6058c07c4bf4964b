"""Rollout tokens/s: the path an RL run uses, against a bare engine and vLLM's offline interface.

    python -m benchmarks.rollout_throughput                                   on this machine
    python -m benchmarks.rollout_throughput --model DIR --workers 1,2,4 --concurrency 64,128,256
        --budgets 2000,8000 --json out.json --plot out.png cluster.address=auto rollout.gpus=1 ...

One line of the table is one setting of workers and concurrency: requests asked for at a time, in
whole groups, as the RL loop's window does. 0 asks for all at once and leaves the rest to the
engine; the offline interface knows no other way, so it takes part only there. Budgets are taken in
turn, group by group; budget 0 asks without one. Fields of the configuration are those of
`recipes/bard_tiny.py`, so `rollout.dtype=bfloat16 student.max_len=4096` and the like can be given.

Contestants, each in a process of its own on the same cores, started once and then called in turn,
in the other order every second round, on the same prompts, seeds, limits and engine settings:

- `ray`: `RaySampler` over rollout actors, groups with log-probs and versions in the driver;
- `bare`: the same engine stepped in a loop, and its outputs read; no Ray, thread or event loop;
- `offline`: `LLM.generate` with its own engine process, vLLM's default;
- `offline0`: the same in one process (VLLM_ENABLE_V1_MULTIPROCESSING=0).

The last three use one engine and are compared with one worker (`--against none` leaves them out).
`ratio` is ray / bare and `vs_offline` ray / the faster offline one, medians over the rounds of the
last setting with one worker. Ray gives its workers a lower priority than others; here it does not,
else a neighbor would slow down one contestant only. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bard_ray.plotting import SERIES, one_panel, save_figure
from benchmarks.common import Child, finish, machine, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET = 0.95
OFFLINE = {"offline": 1, "offline0": 0}  # contestant to VLLM_ENABLE_V1_MULTIPROCESSING
Point = dict[str, Any]


def untrained_student(directory: str) -> str:
    """The recipe's student with random weights: its answers end at random, so lengths differ."""
    from bard_ray.data.tiny_model import write_tiny_model
    from recipes.bard_tiny import config

    recipe = config()
    tiny, chain, max_len = recipe.student.tiny, recipe.data.chain, recipe.student.max_len
    write_tiny_model(directory, tiny, chain, recipe.run.seed, max_len)
    return directory


def start(name: str, model: str, args: argparse.Namespace) -> Child:
    """One contestant, ready to be asked."""
    overrides = [f"rl.group_size={args.group}", *args.overrides]
    if args.max_new_tokens:
        overrides.append(f"rl.max_new_tokens={args.max_new_tokens}")
    options = {
        "model": model,
        "overrides": overrides,
        "budgets": args.budgets,
        "gpu": any(o.startswith("rollout.gpus=") and not o.endswith("=0") for o in overrides),
        "processes": OFFLINE.get(name, 0),
    }
    kind = "offline" if name in OFFLINE else name
    command = [sys.executable, "-m", "benchmarks.contestants", kind, json.dumps(options)]
    child = Child(name, command, {}, set(args.cores))
    child.ask()
    return child


def measure(args: argparse.Namespace, model: str) -> list[Point]:
    """Tokens/s of every setting and contestant, one value a round."""
    names = ["ray", *(args.against if 1 in args.workers else [])]
    contestants = {name: start(name, model, args) for name in names}
    try:
        points = []
        for workers in args.workers:
            for concurrency in args.concurrency:
                playing = [n for n in names if _takes_part(n, workers, concurrency)]
                points.append(_point(contestants, playing, workers, concurrency, args))
        return points
    finally:
        for child in contestants.values():
            child.close()


def _takes_part(name: str, workers: int, concurrency: int) -> bool:
    """Ray always; the others have one engine, and the offline ones take all requests at once."""
    return name == "ray" or (workers == 1 and (name not in OFFLINE or concurrency == 0))


def _point(
    contestants: dict[str, Child],
    names: Sequence[str],
    workers: int,
    concurrency: int,
    args: argparse.Namespace,
) -> Point:
    """One setting: a round to warm up, then `args.rounds` in alternating order."""
    groups = args.groups or 8 * (concurrency or max(args.concurrency) or 256) // args.group
    rates: dict[str, list[float]] = {name: [] for name in names}
    busy: list[float] = []
    for number in range(args.rounds + 1):
        question = {
            "first": number * groups,
            "groups": groups,
            "concurrency": concurrency,
            "workers": workers,
        }
        for name in names if number % 2 else list(names)[::-1]:
            answer = contestants[name].ask(question)
            if number:
                rates[name].append(answer["tokens"] / answer["seconds"])
                busy += [answer["busy_share"]] if name == "ray" else []
    point = {"workers": workers, "concurrency": concurrency, "groups": groups, "rates": rates}
    point["busy_share"] = round(statistics.median(busy), 4)
    print(row(point), flush=True)
    return point


def against(point: Point, name: str) -> float | None:
    """Ray's tokens/s over another contestant's, median over the rounds; None where it sat out."""
    rates = point["rates"]
    if name not in rates:
        return None
    return statistics.median(a / b for a, b in zip(rates["ray"], rates[name], strict=True))


def header() -> str:
    """Heading of the table."""
    names = "".join(f"{name:>10}" for name in ("ray", "bare", *OFFLINE))
    return f"{'workers':>7}{'in flight':>11}{names}{'ray/bare':>10}{'busy':>7}   tokens/s"


def row(point: Point) -> str:
    """One line of the table."""
    rates, ratio = point["rates"], against(point, "bare")
    cells = "".join(
        f"{statistics.median(rates[name]):10,.0f}" if name in rates else f"{'-':>10}"
        for name in ("ray", "bare", *OFFLINE)
    )
    last = f"{ratio:10.3f}" if ratio is not None else f"{'-':>10}"
    flight = point["concurrency"] or "all"
    return f"{point['workers']:7d}{flight:>11}{cells}{last}{point['busy_share']:7.2f}"


def summary(points: Sequence[Point]) -> dict[str, Any]:
    """The figures of the record: the two ratios of the last setting with one worker."""
    table = [
        {
            "workers": p["workers"],
            "concurrency": p["concurrency"],
            "groups": p["groups"],
            "busy_share": p["busy_share"],
            "tokens_per_s": {name: spread(values, 0) for name, values in p["rates"].items()},
        }
        for p in points
    ]
    compared = [p for p in points if "bare" in p["rates"]]
    if not compared:
        return {"points": table}
    ratio = against(compared[-1], "bare")
    offline = [r for name in OFFLINE if (r := against(compared[-1], name)) is not None]
    return {
        "ratio": round(ratio or 0.0, 3),
        "vs_offline": round(min(offline), 3) if offline else None,
        "points": table,
    }


def draw(path: Path, points: Sequence[Point]) -> None:
    """Tokens/s over requests in flight: a line for each number of workers and each contestant."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for point in points:  # "all" has no place on the axis
        for name, values in point["rates"].items():
            label = f"{point['workers']} x ray" if name == "ray" else name
            if not point["concurrency"]:
                continue
            here = (point["concurrency"], statistics.median(values))
            lines.setdefault(label, []).append(here)

    def body(axes: Axes) -> None:
        for index, (label, line) in enumerate(lines.items()):
            x, y = zip(*line, strict=True)
            axes.plot(x, y, marker="o", color=SERIES[index % len(SERIES)], label=label)
        axes.set_xlabel("requests in flight")
        axes.set_ylabel("tokens/s")
        axes.set_ylim(bottom=0)

    save_figure(path, one_panel(body))


def numbers(text: str) -> list[int]:
    """`64,128` as integers."""
    return [int(part) for part in text.split(",") if part]


def main() -> int:
    """Measure, print the table, write what was asked for."""
    args = _arguments()
    facts = machine() | {"cores": len(args.cores)}
    print(header())
    with tempfile.TemporaryDirectory() as directory:
        points = measure(args, args.model or untrained_student(directory))
    if args.plot:
        draw(args.plot, points)
    settings = {
        "model": Path(args.model).name if args.model else "tiny, random weights",
        "rounds": args.rounds,
        "group": args.group,
        "budgets": args.budgets,
        "overrides": args.overrides,
    }
    record = {"benchmark": "rollout_throughput", **facts, "target": TARGET, **summary(points)}
    finish(record | settings, args.json)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    parser.add_argument("--model", help="model directory; default: the tiny student, untrained")
    parser.add_argument("--workers", type=numbers, default=[1])
    parser.add_argument("--concurrency", type=numbers, default=[64, 128, 256, 0])
    parser.add_argument("--budgets", type=numbers, default=[], help="default: the recipe's")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--groups", type=int, help="a round; default: 8 times what is in flight")
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=lambda t: [n for n in t.split(",") if n != "none"])
    parser.add_argument("--cores", type=numbers, default=sorted(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG or SVG")
    parser.add_argument("--quick", action="store_true", help="one setting, bare only, 2 rounds")
    args = parser.parse_intermixed_args()
    if args.against is None:
        args.against = ["bare", *OFFLINE]
    if args.quick:
        args.concurrency, args.rounds, args.against = [128], 2, ["bare"]
    return args


if __name__ == "__main__":
    sys.exit(main())
