"""Near-duplicate questions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, StepResult, by_question
from bard_ray.distill.shingles import jaccard, ngrams, numbers, words
from bard_ray.plugins import require_within

_BANDS, _ROWS = 32, 4  # a pair of similarity s is compared with probability 1 - (1 - s^4)^32


@FILTERS.register("near_duplicates")
@dataclass(frozen=True)
class NearDuplicatesFilter:
    """Keep the first of questions with J(a, b) >= min_similarity, with all of its chains.

    J is the Jaccard index of the sets of word n-grams, without case, punctuation and LaTeX markup.
    Pairs are found by MinHash (128 hashes in 32 bands) and compared exactly. Questions with
    different numbers are different questions, however similar their words. Reason:
    `near_duplicate`. Source: ours, after MinHash with banding (Broder 1997).

    Attributes:
        ngram: words of an n-gram.
        min_similarity: of a duplicate, in (0, 1].
        same_numbers: duplicates must have the same numbers; off: numbers are words like others.
    """

    COMPARES_QUESTIONS: ClassVar[bool] = True

    ngram: int = 3
    min_similarity: float = 0.8
    same_numbers: bool = True

    def __post_init__(self) -> None:
        require_within("ngram", self.ngram, 1)
        require_within("min_similarity", self.min_similarity, 0, 1, open_low=True)

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Question by question, each against all questions kept so far."""
        index = _Index(self)
        for group in by_question(records):
            text = "\n".join(message.content for message in group[0].question.messages)
            reason = "" if index.add(text) else "near_duplicate"
            for record in group:
                yield record, reason


class _Index:
    """The questions kept so far."""

    def __init__(self, rule: NearDuplicatesFilter) -> None:
        self._rule = rule
        self._kept: list[tuple[frozenset[int], list[str]]] = []
        self._bands: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        generator = np.random.default_rng(0)
        self._factors = generator.integers(1 << 62, size=_BANDS * _ROWS, dtype=np.uint64) * 2 + 1

    def add(self, text: str) -> bool:
        """Add a question, unless it is a near-duplicate of an earlier one; True: it was added."""
        tokens = words(text)
        shingles = ngrams(tokens, self._rule.ngram)
        mark = numbers(tokens) if self._rule.same_numbers else []
        keys = self._keys(shingles)
        for place in sorted({place for key in keys for place in self._bands.get(key, ())}):
            other, their_mark = self._kept[place]
            if mark == their_mark and jaccard(shingles, other) >= self._rule.min_similarity:
                return False
        for key in keys:
            self._bands[key].append(len(self._kept))
        self._kept.append((shingles, mark))
        return True

    def _keys(self, shingles: frozenset[int]) -> list[tuple[int, bytes]]:
        """One key per band of the MinHash signature; equal sets have equal keys."""
        values: NDArray[np.uint64] = np.fromiter(shingles or {0}, np.uint64)
        # Multiplication by odd numbers modulo 2^64 mixes the upper bits; drop the lower ones.
        mixed = (values[:, None] * self._factors) >> np.uint64(16)
        signature = mixed.min(axis=0).reshape(_BANDS, _ROWS)
        return [(band, signature[band].tobytes()) for band in range(_BANDS)]
