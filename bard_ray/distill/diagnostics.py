"""Diagnostics of a teacher's chains, reported beside the score of the smoke test.

DED finds that the texts of the better teacher have lower token entropy and shift the student's
hidden states less. Its estimators are not public, so those here are ours: compare figures of one
smoke test with each other, not with the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bard_ray.records import Floats, Ints, TrainSequence
from bard_ray.roles import Reference

ORDER = 2  # of the n-gram model: contexts of one token
SEQUENCES_PER_CALL = 64  # of the reference worker: a call has a time limit


@dataclass(frozen=True, slots=True)
class LengthFigures:
    """Lengths of chains in tokens of the student: mean, standard deviation, percentiles."""

    chains: int
    mean: float
    std: float
    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Figures of one teacher's corpus; None where a figure could not be computed.

    Attributes:
        lengths: of the thinking.
        entropy: token entropy of the thinking under an n-gram model, nats; see `ngram_entropy`.
        nll: mean negative log-likelihood of the completions under the student before training,
            nats per token; its exponential is the perplexity.
        shift: how far the training moved the student's hidden states; see `pca_shift`.
    """

    lengths: LengthFigures
    entropy: float | None = None
    nll: float | None = None
    shift: float | None = None


def length_figures(lengths: Sequence[int]) -> LengthFigures:
    """Mean, standard deviation and percentiles.

    Args:
        lengths: tokens of each chain.

    Raises:
        ValueError: `lengths` is empty.

    Source: standard.
    """
    if not lengths:
        raise ValueError("no chain, no lengths")
    p10, p50, p90 = (float(p) for p in np.percentile(lengths, [10, 50, 90]))
    mean, std = float(np.mean(lengths)), float(np.std(lengths))
    return LengthFigures(len(lengths), mean, std, p10, p50, p90)


def ngram_entropy(sequences: Sequence[Ints], order: int = ORDER) -> float | None:
    """Mean entropy of a token given the `order - 1` tokens before it.

        H = - sum_{c, x} n(c, x) / N * log( n(c, x) / n(c) )  +  (K_cx - K_c) / 2N

    n counts contexts c and the tokens x after them, N is the number of tokens that have a whole
    context before them in their own sequence, K the number of different (c, x) and c. The second
    term corrects most of the bias of small counts; still, compare figures from equally many tokens
    only.

    Args:
        sequences: token ids, (T,) each.
        order: tokens of an n-gram, at least 1.

    Returns:
        Nats per token; None where no token has a whole context.

    Source: ours for DED's token entropy; plug-in estimate, correction of Miller and Madow 1955.
    """
    grams_ND = _ngrams(sequences, order)
    if not len(grams_ND):
        return None
    total = len(grams_ND)
    pairs, contexts = _counts(grams_ND), _counts(grams_ND[:, :-1])
    entropy = _entropy(pairs, total) - _entropy(contexts, total)
    # Both terms may leave a rounding error below zero.
    return max(0.0, entropy + (pairs.size - contexts.size) / (2 * total))


def first_tokens(sequences: Sequence[Ints], limit: int) -> list[Ints]:
    """The first sequences up to `limit` tokens in total; the last one may be truncated."""
    ends = np.cumsum([0, *(tokens_T.size for tokens_T in sequences)])
    return [
        tokens_T[: limit - start]
        for tokens_T, (start, _) in zip(sequences, pairwise(ends.tolist()), strict=True)
        if start < limit
    ]


def pca_shift(before_BH: Floats, after_BH: Floats) -> float | None:
    """How far hidden states moved, in the plane of their first two principal components.

        shift = | U (mean after - mean before) | / sqrt( mean_i | U (before_i - mean before) |^2 )

    U [2, H] holds the first two principal directions of the states before training. 1 means that
    the mean moved by the typical distance of a text from the mean.

    Args:
        before_BH: mean state of each text before the training, [B, H].
        after_BH: of the same texts after it.

    Returns:
        A number >= 0; None where the states before are all equal, or some are not finite.

    Raises:
        ValueError: the shapes differ, or there are fewer than two texts.

    Source: ours, for DED's shift in a PCA plane.
    """
    if before_BH.shape != after_BH.shape or before_BH.ndim != 2 or len(before_BH) < 2:
        msg = f"states of shapes {before_BH.shape} and {after_BH.shape} cannot be compared"
        raise ValueError(msg)
    if not (np.isfinite(before_BH).all() and np.isfinite(after_BH).all()):
        return None  # a student that diverged
    center_H = before_BH.mean(axis=0, dtype=np.float64)
    centered_BH = before_BH.astype(np.float64) - center_H
    directions_2H = np.linalg.svd(centered_BH, full_matrices=False)[2][:2]
    radius = float(np.sqrt(np.mean(np.sum((centered_BH @ directions_2H.T) ** 2, axis=1))))
    moved_H = after_BH.mean(axis=0, dtype=np.float64) - center_H
    return float(np.linalg.norm(directions_2H @ moved_H)) / radius if radius > 0 else None


async def mean_nll(reference: Reference, sequences: Sequence[TrainSequence]) -> float | None:
    """Mean negative log-likelihood of the trained tokens, nats; None without any or if not finite.

    Args:
        reference: holds the student.
        sequences: rows of a corpus; their masks leave the prompts out.

    Source: standard.
    """
    total, tokens = 0.0, 0
    for some in _in_calls(sequences):
        found = await reference.logprobs([s.tokens_T for s in some], 1.0)
        for sequence, logprobs_T in zip(some, found, strict=True):
            total -= float(logprobs_T[sequence.mask_T].sum(dtype=np.float64))
            tokens += int(sequence.mask_T.sum())
    return total / tokens if tokens and math.isfinite(total) else None


async def text_states(reference: Reference, sequences: Sequence[TrainSequence]) -> Floats:
    """Mean hidden state of each text, prompt included, [B, H]."""
    found: list[Floats] = []
    for some in _in_calls(sequences):
        found += await reference.states([s.tokens_T for s in some])
    return np.stack(found)


def _in_calls(sequences: Sequence[TrainSequence]) -> list[Sequence[TrainSequence]]:
    starts = range(0, len(sequences), SEQUENCES_PER_CALL)
    return [sequences[start : start + SEQUENCES_PER_CALL] for start in starts]


def _ngrams(sequences: Sequence[Ints], order: int) -> NDArray[np.int32]:
    """All n-grams, [N, order]; none crosses the end of its sequence."""
    if order < 1:
        msg = f"an n-gram has at least one token, not {order}"
        raise ValueError(msg)
    windows = [
        np.lib.stride_tricks.sliding_window_view(tokens_T, order)
        for tokens_T in sequences
        if tokens_T.size >= order
    ]
    return np.concatenate(windows) if windows else np.empty((0, order), np.int32)


def _counts(grams_ND: NDArray[np.int32]) -> NDArray[np.int64]:
    """How often each different row occurs; rows without columns are all equal."""
    if grams_ND.shape[1] == 0:
        return np.array([len(grams_ND)])
    ranks_N = np.zeros(len(grams_ND), np.int64)
    for column_N in grams_ND.T:  # a row of many columns as one number, without overflow
        _, symbols_N = np.unique(column_N, return_inverse=True)
        joined_N = ranks_N * (int(symbols_N.max()) + 1) + symbols_N
        _, ranks_N, counts = np.unique(joined_N, return_inverse=True, return_counts=True)
    return np.asarray(counts)


def _entropy(counts: NDArray[np.int64], total: int) -> float:
    shares = counts / total
    return float(-np.sum(shares * np.log(shares)))
