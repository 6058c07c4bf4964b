"""Time to select diverse chains by Levenshtein distance on token ids.

    python -m benchmarks.levenshtein [--questions 40] [--chains 16] [--tokens 4000] [--workers 2]

Makes up chains of random tokens (Zipf frequencies over a vocabulary of `VOCABULARY`) in two kinds:
`unrelated` ones, and `related` ones, where a chain is one base chain with a part of its tokens
replaced, removed or inserted. Runs the filter `diverse` on `--questions` questions of either kind,
with one thread and with `--workers`, question by question in turn, and extrapolates linearly to
`TARGET` questions: the cost of a question does not depend on the others. The last line printed is
one JSON object; `ratio` is the wall time with one thread over that with `--workers`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bard_ray.distill.filter import Candidate, FilterContext
from bard_ray.distill.filters.diverse import DiverseFilter
from bard_ray.records import Ints, Message, Question
from benchmarks.common import Arguments, Benchmark, Option, Record

VOCABULARY = 150_000
DISTINCT = 3_000  # tokens that occur in the chains of one question
TARGET = 1_000
EDITED = 0.3  # share of tokens that differ from the base, related chains

Maker = Callable[[np.random.Generator, int, int], list[Ints]]


def unrelated(generator: np.random.Generator, chains: int, tokens: int) -> list[Ints]:
    """Chains drawn independently, lengths within 25 % of `tokens`."""
    ids = generator.choice(VOCABULARY, DISTINCT, replace=False).astype(np.int32)
    weights = 1 / np.arange(1, DISTINCT + 1)
    weights /= weights.sum()
    lengths = generator.integers(tokens * 3 // 4, tokens * 5 // 4 + 1, size=chains)
    return [ids[generator.choice(DISTINCT, int(length), p=weights)] for length in lengths]


def related(generator: np.random.Generator, chains: int, tokens: int) -> list[Ints]:
    """Edited copies of one chain of `tokens` tokens."""
    (base,) = unrelated(generator, 1, tokens)
    made = []
    for _ in range(chains):
        draw = generator.random(base.size)
        changed = np.where(draw < EDITED / 3, generator.permutation(base), base)
        kept = changed[(draw < EDITED / 3) | (draw > EDITED * 2 / 3)]
        places = generator.integers(kept.size, size=int(base.size * EDITED / 3))
        made.append(np.insert(kept, places, generator.choice(base, places.size)))
    return made


@dataclass(frozen=True)
class Timing:
    """Timing of one kind of chains with one number of threads.

    Attributes:
        kind: of chains.
        workers: threads.
        questions: whose chains were compared.
        distances: computed for all of them.
        wall_s: seconds of the filter, without generating the chains.
        cpu_s: processor seconds of all threads, steadier on a busy machine.
    """

    kind: str
    workers: int
    questions: int
    distances: int
    wall_s: float
    cpu_s: float


def measure(arguments: Arguments) -> list[Timing]:
    """Time both kinds of chains with one thread and with several."""
    counts = sorted({1, arguments.workers})
    return [t for make in (unrelated, related) for t in time_filter(make, counts, arguments)]


def time_filter(make: Maker, counts: Sequence[int], arguments: Arguments) -> list[Timing]:
    """Time the filter over all questions, with every number of threads on the same chains."""
    generator = np.random.default_rng(arguments.seed)
    filters = {count: DiverseFilter(keep=arguments.keep, workers=count) for count in counts}
    seconds = {count: [0.0, 0.0] for count in counts}
    for number in range(arguments.questions):
        question = Question(str(number), (Message("user", "q"),), "")
        chains = make(generator, arguments.chains, arguments.tokens)
        group = [Candidate(question, "t", "a", tokens_T) for tokens_T in chains]
        for count in counts:
            wall, cpu = time.perf_counter(), time.process_time()
            kept = sum(not reason for _, reason in filters[count].apply(group, FilterContext()))
            seconds[count][0] += time.perf_counter() - wall
            seconds[count][1] += time.process_time() - cpu
            assert kept == arguments.keep
    distances = arguments.questions * arguments.chains * (arguments.chains - 1) // 2
    return [
        Timing(make.__name__, count, arguments.questions, distances, *seconds[count])
        for count in counts
    ]


def summarize(timings: Sequence[Timing]) -> Record:
    """Seconds by kind and number of threads, and extrapolated to `TARGET` questions."""
    walls: dict[int, float] = {}
    for timing in timings:
        walls[timing.workers] = walls.get(timing.workers, 0.0) + timing.wall_s
    return {
        "ratio": round(walls[min(walls)] / walls[max(walls)], 3),
        "runs": [
            {
                "kind": t.kind,
                "workers": t.workers,
                "seconds": round(t.wall_s, 2),
                "cpu_seconds": round(t.cpu_s, 2),
                "cpu_ms_per_distance": round(1000 * t.cpu_s / t.distances, 3),
                f"seconds_for_{TARGET}_questions": round(t.wall_s * TARGET / t.questions, 1),
                f"cpu_seconds_for_{TARGET}_questions": round(t.cpu_s * TARGET / t.questions, 1),
            }
            for t in timings
        ],
    }


def render(record: Record) -> str:
    """One line per kind and number of threads."""
    whole = f"seconds_for_{TARGET}_questions"
    columns = ("kind", "workers", "seconds", "cpu_seconds", "cpu_ms_per_distance", whole)
    lines = ["  ".join(f"{column:>9}" for column in columns)]
    lines += [
        "  ".join(f"{run[column]:>{max(9, len(column))}}" for column in columns)
        for run in record["runs"]
    ]
    return "\n".join(lines)


OPTIONS = (
    Option("questions", 40, 10),
    Option("chains", 16, help="of a question"),
    Option("tokens", 4000, help="of a chain"),
    Option("workers", 2, help="threads"),
    Option("keep", 4, help="chains of a question that are chosen"),
    Option("seed", 0),
)
BENCHMARK = Benchmark("levenshtein", __doc__, measure, summarize, render, OPTIONS)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
