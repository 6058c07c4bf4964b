"""Words and word n-grams of questions, for finding near-duplicates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from hashlib import blake2b

# A word, a number, or an operator, which changes the question. White space, case, punctuation,
# LaTeX's backslashes, dollars and braces are ignored.
_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:\.\d+)?|[-+*/^=<>!%|]")


def words(text: str) -> list[str]:
    """Words, numbers and operators of a text, case-folded."""
    return _TOKEN.findall(text.casefold())


def numbers(tokens: Sequence[str]) -> list[str]:
    """The numbers among the tokens, sorted."""
    return sorted(token for token in tokens if token[0].isdigit())


def ngrams(tokens: Sequence[str], size: int) -> frozenset[int]:
    """Hashes of all n-grams of `size` words; of the whole text where it is shorter.

    A hash has 64 bits and is the same in every process.
    """
    if not tokens:
        return frozenset()
    hashes = [_hash(token) for token in tokens]
    last = max(1, len(hashes) - size + 1)
    return frozenset(reduce(_join, hashes[start : start + size], 0) for start in range(last))


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """|a and b| / |a or b|; 1 for two empty sets."""
    union = len(a | b)
    return len(a & b) / union if union else 1.0


def _hash(token: str) -> int:
    return int.from_bytes(blake2b(token.encode(), digest_size=8).digest())


def _join(seed: int, value: int) -> int:
    return (seed * 0x9E3779B97F4A7C15 + value + 1) & 0xFFFFFFFFFFFFFFFF
