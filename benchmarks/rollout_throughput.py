"""Rollout tokens/s: the path an RL run uses, against a bare engine and vLLM's offline interface.

    python -m benchmarks.rollout_throughput                                   on this machine
    python -m benchmarks.rollout_throughput --model DIR --workers 1,2,4 --concurrency 64,128,256
        --budgets 2000,8000 --json out.json --plot out.png cluster.address=auto rollout.gpus=1 ...

One line of the table is one setting of workers and concurrency: requests in flight, in whole
groups, as in the RL loop's window. 0 submits all at once and leaves scheduling to the engine; the
offline interface supports only that, so it takes part only there. Budgets are used in turn, group
by group; 0 is a prompt without a budget. Fields of the configuration are those of
`recipes/bard_tiny.py`, so `rollout.dtype=bfloat16 student.max_len=4096` and the like can be given.

Contestants each have a separate process on the same cores. They are started once and then called in
turn, in reverse order every second round, with the same prompts, seeds, limits and engine settings:

- `ray`: `RaySampler` over rollout actors, groups with log-probs and versions in the driver;
- `bare`: the same engine stepped in a loop, and its outputs read; no Ray, thread or event loop;
- `offline`: `LLM.generate` with its own engine process, vLLM's default;
- `offline0`: the same in one process (VLLM_ENABLE_V1_MULTIPROCESSING=0).

The last three use one engine and are compared with one worker (`--against none` omits them).
`ratio` is ray / bare and `vs_offline` ray / the faster offline one, medians over the rounds of the
last setting with one worker. Ray lowers the priority of its workers; here it does not, otherwise
other load on the machine would slow down one contestant only. The last line printed is one JSON
object.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bard_ray.plotting import SERIES, one_panel, save_figure
from benchmarks.children import ChildProcess, module_command
from benchmarks.common import (
    Arguments,
    Benchmark,
    Option,
    Record,
    names,
    note,
    numbers,
    ratio_of,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OFFLINE = {"offline": 1, "offline0": 0}  # contestant to VLLM_ENABLE_V1_MULTIPROCESSING
CONTESTANTS = ("ray", "bare", *OFFLINE)
Point = dict[str, Any]


def untrained_student(directory: str) -> str:
    """The recipe's student with random weights; its answers end at random, so lengths vary."""
    from bard_ray.data.tiny_model import write_tiny_model
    from recipes.bard_tiny import config

    recipe = config()
    tiny, chain, max_len = recipe.student.tiny, recipe.data.chain, recipe.student.max_len
    write_tiny_model(directory, tiny, chain, recipe.run.seed, max_len)
    return directory


def start(name: str, model: str, arguments: Arguments) -> ChildProcess:
    """Start one contestant and wait until it is ready."""
    overrides = [f"rl.group_size={arguments.group}", *arguments.overrides]
    if arguments.max_new_tokens:
        overrides.append(f"rl.max_new_tokens={arguments.max_new_tokens}")
    options = {
        "model": model,
        "overrides": overrides,
        "budgets": arguments.budgets,
        "gpu": any(o.startswith("rollout.gpus=") and not o.endswith("=0") for o in overrides),
        "processes": OFFLINE.get(name, 0),
    }
    kind = "offline" if name in OFFLINE else name
    command = module_command("benchmarks.contestants", kind, json.dumps(options))
    child = ChildProcess(name, command, set(arguments.cores))
    child.ask()
    return child


def measure(arguments: Arguments) -> list[Point]:
    """Tokens/s of every setting and contestant, one value per round."""
    with tempfile.TemporaryDirectory() as directory:
        model = str(arguments.model or untrained_student(directory))
        playing = ["ray", *(arguments.against if 1 in arguments.workers else [])]
        contestants = {name: start(name, model, arguments) for name in playing}
        try:
            return [
                measure_point(contestants, workers, concurrency, arguments)
                for workers in arguments.workers
                for concurrency in arguments.concurrency
            ]
        finally:
            for child in contestants.values():
                child.close()


def takes_part(name: str, workers: int, concurrency: int) -> bool:
    """Whether it takes part: Ray always, others with one worker, offline ones only all at once."""
    return name == "ray" or (workers == 1 and (name not in OFFLINE or concurrency == 0))


def measure_point(
    contestants: Mapping[str, ChildProcess], workers: int, concurrency: int, arguments: Arguments
) -> Point:
    """Measure one setting: a warm-up round, then the rounds in alternating order."""
    playing = [name for name in contestants if takes_part(name, workers, concurrency)]
    in_flight = concurrency or max(arguments.concurrency) or 256
    groups = arguments.groups or 8 * in_flight // arguments.group
    question = {"groups": groups, "concurrency": concurrency, "workers": workers}
    rates: dict[str, list[float]] = {name: [] for name in playing}
    busy: list[float] = []
    for number in range(arguments.rounds + 1):
        for name in playing if number % 2 else playing[::-1]:
            answer = contestants[name].ask(question | {"first": number * groups})
            if number:
                rates[name].append(answer["tokens"] / answer["seconds"])
                busy += [answer["busy_share"]] if name == "ray" else []
    note(f"workers {workers}, in flight {concurrency or 'all'}: done")
    return question | {"rates": rates, "busy_share": statistics.median(busy)}


def over(point: Point, name: str) -> float | None:
    """Ray's tokens/s over another contestant's, median over rounds; None if it took no part."""
    rates = point["rates"]
    return round(ratio_of(rates["ray"], rates[name]), 3) if name in rates else None


def summarize(points: Sequence[Point]) -> Record:
    """The table, and the two ratios of the last setting with one worker."""
    table = [
        {
            "workers": point["workers"],
            "concurrency": point["concurrency"],
            "groups": point["groups"],
            "busy_share": round(point["busy_share"], 4),
            "ratio": over(point, "bare"),
            "tokens_per_s": {name: spread(values, 0) for name, values in point["rates"].items()},
        }
        for point in points
    ]
    compared = [point for point in points if "bare" in point["rates"]]
    offline = [r for name in OFFLINE for p in compared[-1:] if (r := over(p, name)) is not None]
    return {
        "ratio": over(compared[-1], "bare") if compared else None,
        "vs_offline": min(offline, default=None),
        "points": table,
    }


def render(record: Record) -> str:
    """One line per setting."""
    head = "".join(f"{name:>10}" for name in CONTESTANTS)
    lines = [f"{'workers':>7}{'in flight':>11}{head}{'ray/bare':>10}{'busy':>7}   tokens/s"]
    for point in record["points"]:
        rates, ratio = point["tokens_per_s"], point["ratio"]
        cells = "".join(
            f"{rates[name]['median']:10,.0f}" if name in rates else f"{'-':>10}"
            for name in CONTESTANTS
        )
        last = f"{'-':>10}" if ratio is None else f"{ratio:10.3f}"
        flight = point["concurrency"] or "all"
        lines.append(f"{point['workers']:7d}{flight:>11}{cells}{last}{point['busy_share']:7.2f}")
    return "\n".join(lines)


def draw(path: Path, record: Record) -> None:
    """Tokens/s over requests in flight: a line for each number of workers and each contestant."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for point in record["points"]:
        if not point["concurrency"]:  # "all" cannot be shown on the axis
            continue
        for name, values in point["tokens_per_s"].items():
            label = f"{point['workers']} x ray" if name == "ray" else name
            lines.setdefault(label, []).append((point["concurrency"], values["median"]))

    def body(axes: Axes) -> None:
        for index, (label, line) in enumerate(lines.items()):
            x, y = zip(*line, strict=True)
            axes.plot(x, y, marker="o", color=SERIES[index % len(SERIES)], label=label)
        axes.set_xlabel("requests in flight")
        axes.set_ylabel("tokens/s")
        axes.set_ylim(bottom=0)

    save_figure(path, one_panel(body))


OPTIONS = (
    Option("model", help="directory; none: the tiny student, untrained", parse=Path),
    Option("workers", [1], parse=numbers),
    Option("concurrency", [64, 128, 256, 0], [128], "requests in flight; 0: all", numbers),
    Option("budgets", [], help="taken in turn; none: the recipe's", parse=numbers),
    Option("group", 8, help="rollouts of a group"),
    Option("groups", help="of a round; none: 8 times what is in flight", parse=int),
    Option("max_new_tokens", help="of an answer; none: the recipe's", parse=int),
    Option("rounds", 5, 2),
    Option("against", ["bare", *OFFLINE], ["bare"], "other contestants, or none", names),
    Option("cores", sorted(os.sched_getaffinity(0)), parse=numbers),
)
BENCHMARK = Benchmark(
    name="rollout_throughput",
    doc=__doc__,
    measure=measure,
    summarize=summarize,
    render=render,
    options=OPTIONS,
    target=0.95,
    overrides=True,
    draw=draw,
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
