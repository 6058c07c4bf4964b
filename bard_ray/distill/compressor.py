"""Compressors: from one chain to the same chain at several budgets.

A compressor is a file of `bard_ray.distill.compressors` with one frozen dataclass, or the user's
own as `module:Class`. Which budgets a question gets is not its business but that of a spread, see
`Spread`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bard_ray.distill.stage import Candidate
from bard_ray.distill.teacher import Teacher
from bard_ray.plugins import Registry
from bard_ray.records import GradeItem, Verdict


@dataclass(frozen=True, slots=True)
class Compressed:
    """One try at a budget.

    Attributes:
        budget: tokens of the student that were asked for.
        think, answer_text: the compressed chain; empty if there is none.
        reason: why it is not good enough, a fixed word such as `too_long`; empty: accepted.
        attempts: texts asked of the writer for it.
    """

    budget: int
    think: str = ""
    answer_text: str = ""
    reason: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Workbench:
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
    """Shortens a chain to budgets."""

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], bench: Workbench
    ) -> list[Compressed]:
        """One result a budget, in order; those that failed carry their reason.

        Raises:
            ConfigError: this compressor cannot work on such a chain, or needs a writer.
        """
        ...


class Spread(Protocol):
    """Chooses the budgets that a question is taught at."""

    def choose(
        self, natural_tokens: int, taught: Sequence[int], count: int, generator: np.random.Generator
    ) -> list[int]:
        """`count` different budgets, ascending; fewer where there are no more.

        Args:
            natural_tokens: length of the question's own chain, tokens of the student.
            taught: all budgets that may be taught, ascending.
            count: how many are wanted.
            generator: of this question.
        """
        ...


COMPRESSORS: Registry[Compressor] = Registry(
    "distil.compressor", "bard_ray.distill.compressors", method="compress"
)
SPREADS: Registry[Spread] = Registry("distil.spread", "bard_ray.distill.spreads", method="choose")
