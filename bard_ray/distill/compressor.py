"""Compressors: from one chain to the same chain at several budgets.

A compressor is a file of `bard_ray.distill.compressors` with one frozen dataclass, or the user's
own as `module:Class`. Which budgets a question gets is not its business but that of an allocation,
see `BudgetAllocation`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np

from bard_ray.distill.filter import Candidate
from bard_ray.distill.teacher import Teacher
from bard_ray.plugins import Registry
from bard_ray.records import GradeItem, Verdict


class Reason(StrEnum):
    """Why there is no row at a budget; a compressor may have words of its own.

    The text is outside the window (`too_long`, `too_short`) or the original itself (`copied`). Its
    answer is wrong, or there is none that can be read, or it could not be graded. The thought alone
    does not lead to the answer (`unsupported`). The reply lacks its tags (`bad_format`), reached
    its limit (`cut_off`), or there was none (`failed`); `no_rating`: it rates no difficulty. The
    original is shorter than the budget wants (`chain_too_short`). The compressor chose another
    budget for this chain (`other_budget`): nothing was tried. The chain is good, but its question
    has enough of them (`spare`): it was not rejected.
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
    """One try at a budget.

    Attributes:
        budget: tokens of the student that were asked for.
        think, answer_text: the compressed chain, where it is not good enough the nearest try;
            empty if there is none.
        reason: why it is not good enough, a word of `Reason`; empty: accepted.
        attempts: texts asked of the writer for it.
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
        grade: verdicts of answers, as everywhere in this project.
        generator: random numbers of this chain alone: the result follows from chain and seed,
            whatever was compressed before.
    """

    writer: Teacher | None
    count_tokens: Callable[[Sequence[str]], list[int]]
    grade: Callable[[Sequence[GradeItem]], Awaitable[list[Verdict]]]
    generator: np.random.Generator


class Compressor(Protocol):
    """Shortens a chain to budgets.

    One that finds out itself which budget a chain belongs to says so: it has an attribute `chooses`
    that is true. It is asked for all budgets that are taught, and calls those that it does not
    choose `other_budget`; see `chooses_budget`. One that cannot work without a writer has a class
    attribute `NEEDS_WRITER` that is true, one for the synthetic task alone `CHAIN_ONLY`: the
    configuration is then refused before anything starts.
    """

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], bench: CompressorTools
    ) -> list[Compressed]:
        """One result a budget, in order; those that failed carry their reason.

        Raises:
            ConfigError: this compressor cannot work on such a chain, or needs a writer.
        """
        ...


def chooses_budget(compressor: Compressor) -> bool:
    """Whether it chooses among all taught budgets itself, so that it needs no allocation."""
    return bool(getattr(compressor, "chooses", False))


class BudgetAllocation(Protocol):
    """Chooses the budgets that a question is taught at.

    One that needs to know the lengths of all natural chains first is a `FittedAllocation` too.
    """

    def choose(
        self, natural_tokens: int, taught: Sequence[int], count: int, generator: np.random.Generator
    ) -> list[int]:
        """At most `count` different budgets, ascending; fewer where there are no more.

        Args:
            natural_tokens: length of the question's own chain, tokens of the student.
            taught: all budgets that may be taught, ascending.
            count: how many are wanted.
            generator: of this question.

        Raises:
            ConfigError: its parameters and the budgets taught do not go together.
        """
        ...


@runtime_checkable
class FittedAllocation(Protocol):
    """An allocation that goes by all natural chains, not by those of one question alone."""

    def fit(self, lengths: Sequence[int]) -> BudgetAllocation:
        """The allocation to be used with chains of these lengths, in tokens of the student."""
        ...


def fit_allocation(allocation: BudgetAllocation, lengths: Sequence[int]) -> BudgetAllocation:
    """The allocation for chains of these lengths: the same one, unless it has to be fitted."""
    return allocation.fit(lengths) if isinstance(allocation, FittedAllocation) else allocation


COMPRESSORS: Registry[Compressor] = Registry(
    "distill.compressor", "bard_ray.distill.compressors", method="compress"
)
ALLOCATIONS: Registry[BudgetAllocation] = Registry(
    "distill.allocation", "bard_ray.distill.allocations", method="choose"
)
