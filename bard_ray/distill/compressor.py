"""Compressors: from one chain to the same chain at several budgets.

A compressor is a file of `bard_ray.distill.compressors` with one frozen dataclass, or the user's
own as `module:Class`. A budget allocation (`bard_ray.distill.allocation`) decides which budgets a
chain is compressed to, unless the compressor does so itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from bard_ray.distill.filter import Candidate, Counters, new_counters
from bard_ray.distill.teacher import Teacher
from bard_ray.plugins import Registry
from bard_ray.records import GradeItem, Verdict


class Reason(StrEnum):
    """Why there is no row at a budget; a compressor may use words of its own.

    The text is outside the length window (`too_long`, `too_short`) or equals the original
    (`copied`). Its answer is wrong (`wrong_answer`), cannot be read (`no_answer`) or could not be
    graded (`not_graded`). The rewritten chain alone does not lead to the answer (`unsupported`).
    The reply lacks its tags (`bad_format`), reached its token limit (`cut_off`), or there was none
    (`failed`); `no_rating`: it rates no difficulty. The original is shorter than the window
    (`chain_too_short`). The compressor chose another budget for this chain and tried nothing here
    (`other_budget`). The chain is good, but its question has enough of them (`spare`).
    """

    TOO_LONG = "too_long"
    TOO_SHORT = "too_short"
    COPIED = "copied"
    WRONG_ANSWER = "wrong_answer"
    NO_ANSWER = "no_answer"
    NOT_GRADED = "not_graded"
    UNSUPPORTED = "unsupported"
    BAD_FORMAT = "bad_format"
    CUT_OFF = "cut_off"
    FAILED = "failed"
    NO_RATING = "no_rating"
    CHAIN_TOO_SHORT = "chain_too_short"
    OTHER_BUDGET = "other_budget"
    SPARE = "spare"


@dataclass(frozen=True, slots=True)
class Compressed:
    """Result of compressing one chain to one budget.

    Attributes:
        budget: tokens of the student that were requested.
        think, answer_text: the compressed chain; the best attempt if none was accepted, empty if
            there is none.
        reason: why it is not accepted, a word of `Reason`; empty: accepted.
        attempts: texts requested from the writer.
    """

    budget: int
    think: str = ""
    answer_text: str = ""
    reason: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class CompressorTools:
    """What a compressor may use.

    Attributes:
        writer: the model that rewrites; None where the configuration names none.
        count_tokens: lengths of texts in tokens of the student.
        grade: verdicts of answers, by the same verifier as everywhere.
        generator: random numbers of this chain alone: the result follows from chain and seed,
            whatever was compressed before.
        counters: a compressor's own figures for the data report.
    """

    writer: Teacher | None
    count_tokens: Callable[[Sequence[str]], list[int]]
    grade: Callable[[Sequence[GradeItem]], Awaitable[list[Verdict]]]
    generator: np.random.Generator
    counters: Counters = field(default_factory=new_counters)


class Compressor(Protocol):
    """Shortens a chain to budgets; what it requires is in its `Traits`.

    A compressor that picks the budgets of a chain itself has an attribute `own_budgets` above 0:
    how many it picks at most. It is called with all budgets of `budget.train` and returns
    `other_budget` for those that it does not pick.
    """

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], tools: CompressorTools
    ) -> list[Compressed]:
        """One result per budget, in order; those that failed carry their reason.

        Raises:
            ConfigError: this compressor cannot work on such a chain, or needs a writer.
        """
        ...


COMPRESSORS: Registry[Compressor] = Registry(
    "distill.compressor", "bard_ray.distill.compressors", method="compress"
)


def own_budgets(compressor: Compressor) -> int:
    """Budgets that a compressor picks for a chain itself; 0: the allocation picks them."""
    return int(getattr(compressor, "own_budgets", 0))
