"""How many budgets a compressor reaches when its writer misses the requested length.

    python benchmarks/acceptance.py [--chains 200] [--bias 0.35] [--spread 0.2] [--attempts 1 2 4]

A scripted writer stands in for an LLM: given a length it writes exp(bias + spread * z) times as
much, z ~ N(0, 1) anew each time; told how long its text was, it is off by `learns` of that error.
Chains of log-normal length are rewritten to `BUDGETS` by the compressor `rewrite`, for several
numbers of attempts. What it shows is the rule, window and feedback, not any LLM. Prints one line a
budget; the last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bard_ray.distill.acceptance import AcceptanceTable
from bard_ray.distill.compressor import CompressorTools
from bard_ray.distill.compressors.rewrite import Rewrite
from bard_ray.distill.filter import Candidate
from bard_ray.distill.teacher import Reply, TeacherRequest
from bard_ray.records import GradeItem, Message, Question, Verdict
from bard_ray.verify.grade import grade

BUDGETS = (250, 500, 1000, 2000, 4000)
MEDIAN_TOKENS = 3000  # of natural chains, whose logarithms have a standard deviation of 0.5

_WINDOW = re.compile(r"between (\d+) and (\d+) of them")


@dataclass
class SloppyWriter:
    """Answers the built-in prompt of `rewrite` with texts of the wrong length; a word is a token.

    Attributes:
        bias: of the logarithm of its lengths.
        spread: standard deviation of the same.
        learns: share of the last error that remains after feedback.
        wrong, unformed: shares of replies with a wrong answer, and without tags.
        requests: all requests so far.
    """

    bias: float = 0.35
    spread: float = 0.2
    learns: float = 0.4
    wrong: float = 0.0
    unformed: float = 0.0
    requests: list[TeacherRequest] = field(default_factory=list)

    async def reply(self, request: TeacherRequest) -> Reply:
        """A text that depends on the request only."""
        self.requests.append(request)
        generator = np.random.default_rng(request.seed)
        low, high = map(int, _WINDOW.findall(request.messages[0].content)[0])
        middle, off = (low + high) / 2, self.bias
        if len(request.messages) > 1:
            off = self.learns * math.log(request.messages[1].content.count("step") / middle)
        miss = off + self.spread * generator.standard_normal()
        think = " ".join(["step"] * max(1, round(middle * math.exp(miss))))
        if generator.random() < self.unformed:
            return Reply("", think)
        answer = "41" if generator.random() < self.wrong else "42"
        text = f"<reasoning>\n{think}\n</reasoning>\n<answer>\\boxed{{{answer}}}</answer>"
        return Reply("", text)

    def counters(self) -> Mapping[str, float]:
        """Number of requests."""
        return {"requests": len(self.requests)}

    async def close(self) -> None:
        """Nothing to release."""


def count_words(texts: Sequence[str]) -> list[int]:
    """The tokens of this benchmark."""
    return [len(text.split()) for text in texts]


async def grade_here(items: Sequence[GradeItem]) -> list[Verdict]:
    """The project's grader, in this process: the texts are our own."""
    return [grade(item) for item in items]


def chain_of_length(number: int, num_tokens: int) -> Candidate:
    """A chain of so many different words, whose answer is 42."""
    question = Question(str(number), (Message("user", "6 * 7?"),), "42")
    think = " ".join(f"w{place}" for place in range(num_tokens))
    return Candidate(question, think, "\\boxed{42}", np.zeros(num_tokens, np.int32))


async def measure(args: argparse.Namespace, attempts: int) -> AcceptanceTable:
    """The table of all chains at all budgets."""
    generator = np.random.default_rng(args.seed)
    lengths = np.exp(generator.normal(math.log(MEDIAN_TOKENS), 0.5, args.chains)).astype(int)
    writer = SloppyWriter(args.bias, args.spread, wrong=args.wrong, unformed=args.unformed)
    rule, table = Rewrite(low=args.low, high=args.high, attempts=attempts), AcceptanceTable()
    for number, length in enumerate(lengths.tolist()):
        tools = CompressorTools(writer, count_words, grade_here, np.random.default_rng((1, number)))
        for result in await rule.compress(chain_of_length(number, length), BUDGETS, tools):
            num_tokens = count_words([result.think])[0]
            table.add(result.budget, num_tokens, result.reason, result.attempts)
    return table


def show(attempts: int, rows: Mapping[str, Any]) -> None:
    """One line a budget."""
    for budget, row in rows.items():
        error = "-" if row["mean_error"] is None else f"{row['mean_error']:.3f}"
        print(
            f"attempts {attempts}  budget {budget:>5}  accepted {row['share']:.3f}"
            f"  mean attempts {row['mean_attempts']:.2f}  |L-b|/b {error}  {row['reasons']}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    numbers = {"bias": 0.35, "spread": 0.2, "wrong": 0.03, "unformed": 0.02}
    for name, default in {**numbers, "low": 0.75, "high": 1.0}.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--chains", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attempts", type=int, nargs="+", default=[1, 2, 4])
    args = parser.parse_args()
    result = {}
    for attempts in args.attempts:
        rows = asyncio.run(measure(args, attempts)).to_json()
        show(attempts, rows)
        result[str(attempts)] = rows
    print(json.dumps({"settings": vars(args), "attempts": result}))


if __name__ == "__main__":
    main()
