"""Diverse chains for each question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bard_ray.distill.distance import Distances, levenshtein_matrix
from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, StepResult, by_question
from bard_ray.plugins import require_within


@FILTERS.register("diverse")
@dataclass(frozen=True)
class DiverseFilter:
    """Keep the `keep` chains of a question that are farthest apart.

    The first two are the pair of the largest distance; then repeatedly the chain whose nearest
    chosen one is farthest: argmax_i min_{j chosen} d(i, j). Ties go to the earlier chain. d is the
    Levenshtein distance of token ids. Reason: `not_diverse`. Source: DED keeps the chains farthest
    apart by Levenshtein distance; the greedy max-min rule and the number are ours.

    Attributes:
        keep: chains per question.
        relative: divide each distance by the length of the longer chain; otherwise a long chain is
            far from all others because of its length.
        workers: threads; -1: all cores.
    """

    REQUIRES: ClassVar[tuple[str, ...]] = ("think",)
    REPORTS_DIVERSITY: ClassVar[bool] = True
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("workers",)

    keep: int = 4
    relative: bool = False
    workers: int = 1

    def __post_init__(self) -> None:
        require_within("keep", self.keep, 1)
        require_within("workers", self.workers, -1)

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Question by question; the chains keep their order."""
        for group in by_question(records):
            chosen = set(range(len(group)))
            if len(group) > self.keep:
                tokens = [record.tokens_T for record in group]
                matrix = levenshtein_matrix(tokens, self.workers)
                lengths = [ids_T.size for ids_T in tokens]
                chosen = set(
                    farthest_points(
                        _relative(matrix, lengths) if self.relative else matrix, self.keep
                    )
                )
            for place, record in enumerate(group):
                yield record, "" if place in chosen else "not_diverse"


def farthest_points(distances: Distances, keep: int) -> list[int]:
    """Greedy max-min selection.

    Args:
        distances: [N, N], symmetric, zero on the diagonal.
        keep: points wanted; all of them if there are no more. A single one is the first of the
            farthest pair.

    Returns:
        Indices in the order of selection; ties go to the lower index. Source: ours (Gonzalez 1985,
        started from the farthest pair).
    """
    size = len(distances)
    first, second = np.unravel_index(int(np.argmax(distances)), distances.shape)
    chosen = [int(first)] if keep == 1 or size == 1 else [int(first), int(second)]
    if len(chosen) == 2 and first == second:  # all distances are 0: the first ones
        return list(range(min(keep, size)))
    while len(chosen) < min(keep, size):
        nearest = distances[:, chosen].min(axis=1).astype(float)
        nearest[chosen] = -1.0
        chosen.append(int(np.argmax(nearest)))
    return chosen


def _relative(distances: Distances, lengths: Sequence[int]) -> Distances:
    longer = np.maximum.outer(lengths, lengths)
    return np.asarray(distances / np.maximum(longer, 1))
