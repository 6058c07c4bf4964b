"""How long it takes to choose diverse chains by Levenshtein distance on token ids.

    python benchmarks/levenshtein.py [--questions 40] [--chains 16] [--tokens 4000] [--workers 2]

Makes up chains of random tokens (Zipf frequencies over a vocabulary of `VOCABULARY`) in two kinds:
`unrelated` ones, and `related` ones, where a chain is one base chain with a part of its tokens
replaced, removed or put in. Runs the stage `diverse` on `--questions` questions of either kind and
extrapolates linearly to `TARGET` questions: the cost of a question does not depend on the others.
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

import numpy as np

from bard_ray.distill.filter import Candidate, FilterContext
from bard_ray.distill.filters.diverse import DiverseFilter
from bard_ray.records import Ints, Message, Question

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


def seconds(make: Maker, args: argparse.Namespace) -> tuple[float, float]:
    """Wall and CPU seconds of the stage over all questions; making chains up is not counted.

    On a busy machine the CPU seconds of all threads are the steadier figure.
    """
    generator = np.random.default_rng(args.seed)
    stage = DiverseFilter(keep=args.keep, workers=args.workers)
    wall = cpu = 0.0
    for number in range(args.questions):
        question = Question(str(number), (Message("user", "q"),), "")
        chains = make(generator, args.chains, args.tokens)
        group = [Candidate(question, "t", "a", tokens_T) for tokens_T in chains]
        start, cpu_start = time.perf_counter(), time.process_time()
        kept = sum(not reason for _, reason in stage.apply(group, FilterContext()))
        wall += time.perf_counter() - start
        cpu += time.process_time() - cpu_start
        assert kept == args.keep
    return wall, cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("questions", 40), ("chains", 16), ("tokens", 4000), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pairs = args.questions * args.chains * (args.chains - 1) // 2
    result: dict[str, object] = vars(args) | {
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    for make in (unrelated, related):
        wall, cpu = seconds(make, args)
        whole, whole_cpu = wall * TARGET / args.questions, cpu * TARGET / args.questions
        result[make.__name__] = {
            "seconds": round(wall, 2),
            "cpu_seconds": round(cpu, 2),
            "cpu_ms_per_distance": round(1000 * cpu / pairs, 3),
            f"seconds_for_{TARGET}_questions_extrapolated": round(whole, 1),
            f"cpu_seconds_for_{TARGET}_questions_extrapolated": round(whole_cpu, 1),
        }
        print(f"{make.__name__}: {wall:.1f} s for {args.questions}, so {whole:.0f} s for {TARGET}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
