"""How likely the sentences of a chain are under the teacher and under the student."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bard_ray.records import Floats, Ints


def sentence_probabilities(logprobs_T: Floats, ends: Sequence[int]) -> Floats:
    """Geometric mean of the token probabilities of each sentence.

    p_s = exp(mean of log p_t over the tokens t of sentence s).

    Args:
        logprobs_T: natural log-probs of the tokens, (T,).
        ends: index after the last token of each sentence, strictly ascending, the last one T.

    Returns:
        (S,), in [0, 1]. Source: DASD, sentence score.

    Raises:
        ValueError: `ends` does not split the tokens into sentences.
    """
    return np.exp(_sentence_means(logprobs_T, ends)).astype(np.float32)


def _sentence_means(logprobs_T: Floats, ends: Sequence[int]) -> NDArray[np.float64]:
    bounds = np.array([0, *ends])
    lengths = np.diff(bounds)
    if bounds[-1] != logprobs_T.size or np.any(lengths < 1):
        msg = f"ends {list(ends)} do not split {logprobs_T.size} tokens into sentences"
        raise ValueError(msg)
    sums = np.add.reduceat(logprobs_T.astype(np.float64), bounds[:-1])
    return sums / lengths


def sentence_boundaries(text: str, boundary: str) -> list[int]:
    """Character offsets of the sentence ends of a text, ascending; the last one is its length.

    A sentence ends where a match of the regular expression `boundary` ends; a match may be empty.
    Source: ours.
    """
    return sorted({match.end() for match in re.finditer(boundary, text)} - {0} | {len(text)})


def aligned_ends(
    boundaries: Sequence[int], ends_T: Ints, ends_U: Ints
) -> tuple[list[int], list[int]]:
    """Sentence ends in the tokens of two tokenizers of one text, equally many in both.

    A token belongs to the sentence in which its last character lies. A sentence without a token of
    its own under one of the tokenizers is merged with its neighbor.

    Args:
        boundaries: sentence ends, characters, strictly ascending, the last one after all tokens.
        ends_T: end of each token, characters, (T,).
        ends_U: the same of the other tokenizer, (U,).

    Returns:
        Index after the last token of each sentence, strictly ascending, under either tokenizer;
        the last ones are T and U. Source: ours.
    """
    pairs = [(0, 0)]
    counts = zip(
        _tokens_before(boundaries, ends_T), _tokens_before(boundaries, ends_U), strict=True
    )
    for t, u in counts:
        if t > pairs[-1][0] and u > pairs[-1][1]:
            pairs.append((t, u))
    pairs[max(1, len(pairs) - 1) :] = [(ends_T.size, ends_U.size)]
    return [t for t, _ in pairs[1:]], [u for _, u in pairs[1:]]


def _tokens_before(boundaries: Sequence[int], ends_T: Ints) -> list[int]:
    # Tokens that share a character have equal ends; a token without text ends at 0 wherever it is.
    ends_T = np.maximum.accumulate(ends_T)
    return np.searchsorted(ends_T, np.asarray(boundaries), side="right").tolist()


def broadcast_means(logprobs_U: Floats, ends_U: Sequence[int], ends_T: Sequence[int]) -> Floats:
    """Mean log-prob of each sentence, repeated for every token of another tokenizer.

    So the geometric mean of the sentence is the same under both tokenizers.

    Args:
        logprobs_U: natural log-probs of the tokens, (U,).
        ends_U: index after the last token of each sentence, strictly ascending, the last one U.
        ends_T: the same sentences under the other tokenizer.

    Returns:
        (T,). Source: ours.
    """
    means = _sentence_means(logprobs_U, ends_U)
    return np.repeat(means, np.diff([0, *ends_T])).astype(np.float32)
