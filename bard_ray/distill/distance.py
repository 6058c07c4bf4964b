"""Levenshtein distances between token sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bard_ray.records import Ints

Distances = NDArray[np.generic]
_SURROGATES = 0xD800  # code points from here on are not characters; 0x800 of them


def levenshtein_matrix(sequences: Sequence[Ints], workers: int = 1) -> Distances:
    """All pairwise distances.

    d(a, b) is the smallest number of insertions, deletions and substitutions of one token.

    Args:
        sequences: token ids, (T,) each.
        workers: threads; -1: all cores.

    Returns:
        [N, N] int32, symmetric. Source: Levenshtein 1966; computed by rapidfuzz.
    """
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    texts = _as_text(sequences)
    # One list against itself: rapidfuzz computes each pair once.
    matrix: Distances = cdist(
        texts, texts, scorer=Levenshtein.distance, dtype=np.int32, workers=workers
    )
    return matrix


def _as_text(sequences: Sequence[Ints]) -> list[str]:
    """Each sequence as a text with one character per token; equal tokens have equal characters.

    Frequent tokens get small code points, because rapidfuzz looks up those below 256 in a table
    and all others in a hash map: 2.3 times less CPU time than with lists of ids (measured on 16
    chains of 4,000 tokens).
    """
    if not sequences:
        return []
    joined = np.concatenate(sequences)
    _, places, counts = np.unique(joined, return_inverse=True, return_counts=True)
    rank = np.empty(counts.size, dtype=np.uint32)
    rank[np.argsort(-counts, kind="stable")] = np.arange(counts.size, dtype=np.uint32)
    points = rank[places]
    points = np.where(points >= _SURROGATES, points + 0x800, points).astype("<u4")
    ends = np.cumsum([ids_T.size for ids_T in sequences])
    starts = [0, *ends[:-1].tolist()]
    return [
        points[start:end].tobytes().decode("utf-32-le")
        for start, end in zip(starts, ends.tolist(), strict=True)
    ]
