"""Questions that overlap with the evaluation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, StepResult
from bard_ray.distill.shingles import ngrams, words
from bard_ray.plugins import require_within


@FILTERS.register("decontaminate")
@dataclass(frozen=True)
class DecontaminateFilter:
    """Keep questions with s < min_share for every question of the evaluation.

    s is the number of shared word n-grams over the number of n-grams of the question that has
    fewer, so that a question inside a longer one is found. A text of fewer than n words is one
    n-gram. Reason: `in_evaluation`. Source: n-gram overlap is common practice; measure and numbers
    are ours.

    Attributes:
        ngram: n, words.
        min_share: smallest share that counts as contamination, in (0, 1].
    """

    ngram: int = 8
    min_share: float = 0.5

    def __post_init__(self) -> None:
        require_within("ngram", self.ngram, 1)
        require_within("min_share", self.min_share, 0, 1, open_low=True)

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Each record by its question."""
        sizes: list[int] = []
        places: dict[int, list[int]] = defaultdict(list)
        for place, text in enumerate(context.evaluation):
            grams = ngrams(words(text), self.ngram)
            sizes.append(len(grams))
            for gram in grams:
                places[gram].append(place)
        for record in records:
            text = "\n".join(message.content for message in record.question.messages)
            grams = ngrams(words(text), self.ngram)
            shared = Counter(place for gram in grams for place in places.get(gram, ()))
            limit = self.min_share
            hit = any(n >= limit * min(len(grams), sizes[place]) for place, n in shared.items())
            yield record, "in_evaluation" if hit else ""
