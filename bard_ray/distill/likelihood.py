"""How likely sentences of a chain are under teacher and student, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bard_ray.records import Floats, Ints


class Provenance(StrEnum):
    """Where a sentence of a distilled student comes from."""

    TEACHER = "teacher"
    STUDENT = "student"
    SHARED = "shared"
    BOOSTED = "boosted"


def sentence_probabilities(logprobs_T: Floats, ends: Sequence[int]) -> Floats:
    """Geometric mean of the token probabilities of each sentence.

    p_s = exp(mean of log p_t over the tokens t of sentence s).

    Args:
        logprobs_T: natural log-probs of the tokens, (T,).
        ends: index after the last token of each sentence, strictly ascending, the last one T.

    Returns:
        (S,), in [0, 1]. Source: DASD, sentence score.

    Raises:
        ValueError: the ends do not cut the tokens into sentences.
    """
    return np.exp(_sentence_means(logprobs_T, ends)).astype(np.float32)


def _sentence_means(logprobs_T: Floats, ends: Sequence[int]) -> NDArray[np.float64]:
    cuts = np.array([0, *ends])
    lengths = np.diff(cuts)
    if cuts[-1] != logprobs_T.size or np.any(lengths < 1):
        msg = f"ends {list(ends)} do not cut {logprobs_T.size} tokens into sentences"
        raise ValueError(msg)
    sums = np.add.reduceat(logprobs_T.astype(np.float64), cuts[:-1])
    return sums / lengths


def sentence_cuts(text: str, boundary: str) -> list[int]:
    """Where in a text its sentences end, in characters, ascending; the last one is its length.

    A sentence ends where a match of the regular expression `boundary` ends; a match may be empty.
    Source: ours.
    """
    return sorted({match.end() for match in re.finditer(boundary, text)} - {0} | {len(text)})


def aligned_ends(cuts: Sequence[int], ends_T: Ints, ends_U: Ints) -> tuple[list[int], list[int]]:
    """Sentence ends in the tokens of two tokenizers of one text, as many in one as in the other.

    A token is of the sentence in which its last character lies. A sentence without a token of its
    own under one of the tokenizers is one with its neighbor.

    Args:
        cuts: where sentences end, characters, strictly ascending, the last one behind all tokens.
        ends_T: where each token ends, characters, (T,).
        ends_U: the same of the other tokenizer, (U,).

    Returns:
        Index after the last token of each sentence, strictly ascending, under either tokenizer;
        the last ones are T and U. Source: ours.
    """
    pairs = [(0, 0)]
    for t, u in zip(_tokens_before(cuts, ends_T), _tokens_before(cuts, ends_U), strict=True):
        if t > pairs[-1][0] and u > pairs[-1][1]:
            pairs.append((t, u))
    pairs[max(1, len(pairs) - 1) :] = [(ends_T.size, ends_U.size)]
    return [t for t, _ in pairs[1:]], [u for _, u in pairs[1:]]


def _tokens_before(cuts: Sequence[int], ends_T: Ints) -> list[int]:
    # Tokens that share a character end alike; one without text ends at 0, wherever it stands.
    ends_T = np.maximum.accumulate(ends_T)
    return np.searchsorted(ends_T, np.asarray(cuts), side="right").tolist()


def spread_means(logprobs_U: Floats, ends_U: Sequence[int], ends_T: Sequence[int]) -> Floats:
    """Mean log-prob of each sentence on every token that another tokenizer makes of it.

    So the geometric mean of the sentence is the same under both.

    Args:
        logprobs_U: natural log-probs of the tokens, (U,).
        ends_U: index after the last token of each sentence, strictly ascending, the last one U.
        ends_T: the same sentences under the other tokenizer.

    Returns:
        (T,). Source: ours.
    """
    means = _sentence_means(logprobs_U, ends_U)
    return np.repeat(means, np.diff([0, *ends_T])).astype(np.float32)


def provenance(teacher: float, student: float, distilled: float, margin: float) -> Provenance:
    """Class of a sentence that the distilled student wrote.

    Boosted where the distilled student is surer than both by `margin`; else shared where teacher
    and student differ by less than that; else it is of the one that is surer.

    Args:
        teacher: p_T, of the teacher.
        student: p_S, of the student before the distillation.
        distilled: p_D, of the student after it.
        margin: differences below it do not count.

    Returns:
        The class. Source: classes of provenance tracing (2512.20908); the rule is ours.
    """
    if distilled - max(teacher, student) >= margin:
        return Provenance.BOOSTED
    if abs(teacher - student) < margin:
        return Provenance.SHARED
    return Provenance.TEACHER if teacher > student else Provenance.STUDENT
