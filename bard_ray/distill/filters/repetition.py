"""Repetition inside a chain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, StepResult
from bard_ray.plugins import require_within
from bard_ray.records import Ints


@FILTERS.register("repetition")
@dataclass(frozen=True)
class RepetitionFilter:
    """Keep chains with r <= max_share, r = 1 - (different n-grams) / (n-grams), on token ids.

    A chain shorter than n tokens has r = 0. Reason: `repetitive`. Source: DASD filters by n-gram
    repetition; measure and numbers are ours.

    Attributes:
        ngram: n, tokens.
        max_share: largest share of n-grams that occurred before.
    """

    REQUIRES: ClassVar[tuple[str, ...]] = ("think",)

    ngram: int = 20
    max_share: float = 0.2

    def __post_init__(self) -> None:
        require_within("ngram", self.ngram, 1)
        require_within("max_share", self.max_share, 0, 1)

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Each record by itself."""
        for record in records:
            share = repeated_share(record.tokens_T, self.ngram)
            yield record, "repetitive" if share > self.max_share else ""


def repeated_share(tokens_T: Ints, ngram: int) -> float:
    """1 - (different n-grams) / (n-grams) of token ids (T,); 0 for T < n. Source: ours."""
    if tokens_T.size < ngram:
        return 0.0
    # Each n-gram becomes one 64-bit number: a sum of ids times odd random weights, modulo 2^64.
    weights = np.random.default_rng(0).integers(1 << 62, size=ngram, dtype=np.uint64) * 2 + 1
    hashes = sliding_window_view(tokens_T.astype(np.uint64) + 1, ngram) @ weights
    return 1 - np.unique(hashes).size / hashes.size
