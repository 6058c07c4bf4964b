"""Acceptance rate of a compressor whose writer misses the requested lengths.

    python -m benchmarks.acceptance [--chains 200] [--bias 0.35] [--spread 0.2] [--attempts 1,2,4]

A scripted writer replaces the LLM: its texts have exp(bias + spread * z) times the requested
length, with z ~ N(0, 1) drawn for each request; after feedback on its length, `learns` of its error
remains. Chains of log-normal length are rewritten to `BUDGETS` by the compressor `rewrite`, for
several numbers of attempts. The benchmark measures the rule, window and feedback, not an LLM. The
last line printed is one JSON object; `ratio` is the accepted share with the most attempts over that
with the fewest, over all budgets.
"""

from __future__ import annotations

import asyncio
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bard_ray.distill.acceptance import AcceptanceTable
from bard_ray.distill.compressor import CompressorTools
from bard_ray.distill.compressors.rewrite import Rewrite
from bard_ray.distill.filter import Candidate
from bard_ray.distill.teacher import Reply, TeacherRequest
from bard_ray.records import GradeItem, Message, Question, Verdict
from bard_ray.verify.grade import grade
from benchmarks.common import Arguments, Benchmark, Option, Record, numbers

BUDGETS = (250, 500, 1000, 2000, 4000)
MEDIAN_TOKENS = 3000  # of natural chains, whose logarithms have a standard deviation of 0.5

_WINDOW = re.compile(r"between (\d+) and (\d+) of them")


@dataclass
class SloppyWriter:
    """Answers the built-in prompt of `rewrite` with texts of the wrong length; a word is a token.

    Attributes:
        bias: mean error of the logarithm of its lengths.
        spread: standard deviation of that error.
        learns: part of the error of the last try that remains after feedback.
        wrong: share of replies with a wrong answer.
        unformed: share of replies without tags.
        requests: all requests so far.
    """

    bias: float = 0.35
    spread: float = 0.2
    learns: float = 0.4
    wrong: float = 0.0
    unformed: float = 0.0
    requests: list[TeacherRequest] = field(default_factory=list)

    async def reply(self, request: TeacherRequest) -> Reply:
        """Reply with a text that is a function of the request."""
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
        """Do nothing; there is nothing to release."""


def count_words(texts: Sequence[str]) -> list[int]:
    """Token counts of this benchmark, which counts words."""
    return [len(text.split()) for text in texts]


async def grade_here(items: Sequence[GradeItem]) -> list[Verdict]:
    """Grade in this process with the project's grader; the texts are generated here."""
    return [grade(item) for item in items]


def chain_of_length(number: int, num_tokens: int) -> Candidate:
    """A chain of `num_tokens` distinct words, whose answer is 42."""
    question = Question(str(number), (Message("user", "6 * 7?"),), "42")
    think = " ".join(f"w{place}" for place in range(num_tokens))
    return Candidate(question, think, "\\boxed{42}", np.zeros(num_tokens, np.int32))


Tables = Mapping[int, AcceptanceTable]  # by number of attempts


def measure(arguments: Arguments) -> Tables:
    """A table for each number of attempts."""
    return {n: asyncio.run(rewrite_all(arguments, n)) for n in sorted(arguments.attempts)}


async def rewrite_all(arguments: Arguments, attempts: int) -> AcceptanceTable:
    """Rewrite all chains to all budgets with a number of attempts."""
    generator = np.random.default_rng(arguments.seed)
    logs = generator.normal(math.log(MEDIAN_TOKENS), 0.5, arguments.chains)
    writer = SloppyWriter(
        arguments.bias, arguments.spread, wrong=arguments.wrong, unformed=arguments.unformed
    )
    rule = Rewrite(low=arguments.low, high=arguments.high, attempts=attempts)
    table = AcceptanceTable()
    for number, length in enumerate(np.exp(logs).astype(int).tolist()):
        tools = CompressorTools(writer, count_words, grade_here, np.random.default_rng((1, number)))
        for result in await rule.compress(chain_of_length(number, length), BUDGETS, tools):
            num_tokens = count_words([result.think])[0]
            table.add(result.budget, num_tokens, result.reason, result.attempts)
    return table


def accepted_share(table: AcceptanceTable) -> float:
    """Accepted over requested results, over all budgets."""
    rows = table.budgets.values()
    return sum(row.accepted for row in rows) / sum(row.requested for row in rows)


def summarize(tables: Tables) -> Record:
    """The tables as plain values."""
    shares = {attempts: accepted_share(table) for attempts, table in tables.items()}
    return {
        "ratio": round(shares[max(shares)] / shares[min(shares)], 3),
        "accepted_share": {str(n): round(share, 3) for n, share in shares.items()},
        "attempts": {str(attempts): table.to_json() for attempts, table in tables.items()},
    }


def render(record: Record) -> str:
    """One line per number of attempts and budget."""
    lines = []
    for attempts, rows in record["attempts"].items():
        for budget, row in rows.items():
            error = "-" if row["mean_error"] is None else f"{row['mean_error']:.3f}"
            lines.append(
                f"attempts {attempts}  budget {budget:>5}  accepted {row['share']:.3f}"
                f"  mean attempts {row['mean_attempts']:.2f}  |L-b|/b {error}  {row['reasons']}"
            )
    return "\n".join(lines)


OPTIONS = (
    Option("chains", 200, quick=50),
    Option("bias", 0.35, help="mean error of the logarithm of a length"),
    Option("spread", 0.2, help="standard deviation of that error"),
    Option("wrong", 0.03, help="share of replies with a wrong answer"),
    Option("unformed", 0.02, help="share of replies without tags"),
    Option("low", 0.75, help="least accepted length, in budgets"),
    Option("high", 1.0, help="largest accepted length, in budgets"),
    Option("attempts", [1, 2, 4], parse=numbers),
    Option("seed", 0),
)
BENCHMARK = Benchmark("acceptance", __doc__, measure, summarize, render, OPTIONS)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
