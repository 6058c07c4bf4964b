"""Wire format between actors: many small arrays travel as a few long columns.

Rollout workers send finished groups to the driver (`pack_groups`), and the driver sends training
sequences to the learner ranks (`pack_sequences`).

Ray pickles every array and every dataclass separately, in Python. A group of eight rollouts holds
about ninety small arrays: sending it from the rollout worker to the driver takes 1.6 ms, during
which it holds the GIL that the engine's thread needs, against 0.1 ms for the byte string built here
(measured). A learner step of 128 sequences holds 512 arrays.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bard_ray.records import Bools, Floats, Group, GroupRequest, Ints, Segment, TrainSequence

Ticket = tuple[int, int]  # number of the call that submitted the group, and its admission number
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
OPTIONAL = ("advantages_T", "behavior_T", "reference_T")  # what a `TrainSequence` may lack


def pack_groups(groups: Iterable[tuple[Ticket, Group]]) -> bytes:
    """Serialize the rollouts of several groups, without their requests, which the driver has.

    Segments that rollouts share, such as the prompt, are sent once.
    """
    places: dict[int, int] = {}
    segments: list[Segment] = []
    rows = []
    for ticket, group in groups:
        rollouts = []
        for rollout in group.rollouts:
            for segment in rollout.segments:
                if id(segment) not in places:
                    places[id(segment)] = len(segments)
                    segments.append(segment)
            indices = [places[id(segment)] for segment in rollout.segments]
            rollouts.append((replace(rollout, segments=()), indices))
        rows.append((ticket, group.failure, rollouts))
    shapes = [(segment.role, segment.tokens_T.size) for segment in segments]
    return pickle.dumps((_columns(segments), shapes, rows), protocol=5)


def unpack_groups(
    data: bytes, requests: Mapping[Ticket, GroupRequest]
) -> list[tuple[Ticket, Group]]:
    """Inverse of `pack_groups`, for the tickets in `requests`; other groups are discarded.

    Arrays are views of the columns.
    """
    columns, shapes, rows = pickle.loads(data)  # noqa: S301 our own worker's bytes
    segments = []
    start = 0
    for role, size in shapes:
        segments.append(Segment(role, *(column[start : start + size] for column in columns)))
        start += size
    groups = []
    for ticket, failure, packed in rows:
        if ticket in requests:
            rollouts = (replace(r, segments=tuple(segments[i] for i in own)) for r, own in packed)
            groups.append((ticket, Group(requests[ticket], tuple(rollouts), failure=failure)))
    return groups


def _columns(segments: list[Segment]) -> Columns | tuple[()]:
    """The four arrays of all segments, concatenated."""
    if not segments:
        return ()
    names = ("tokens_T", "logprobs_T", "mask_T", "versions_T")
    tokens, logprobs, mask, versions = (
        np.concatenate([getattr(segment, name) for segment in segments]) for name in names
    )
    return tokens, logprobs, mask, versions


class SequenceColumns(NamedTuple):
    """The arrays of S sequences, concatenated; N tokens in total, C optional columns.

    Attributes:
        lengths_S: tokens of each sequence.
        bins_S: budget bin of each sequence.
        present_SC: which of `OPTIONAL` each sequence has.
        tokens_N: all token ids.
        mask_N: all loss masks.
        optional: one column for each of `OPTIONAL`, without the sequences that lack it.
    """

    lengths_S: Ints
    bins_S: Ints
    present_SC: Bools
    tokens_N: Ints
    mask_N: Bools
    optional: tuple[Floats, ...]


def pack_sequences(sequences: Sequence[TrainSequence]) -> SequenceColumns:
    """One rank's share of a step as columns, which Ray sends out of band, without copying."""
    rows = [[getattr(s, name) for name in OPTIONAL] for s in sequences]
    columns = [[a for a in column if a is not None] for column in zip(*rows, strict=True)]
    return SequenceColumns(
        np.array([s.tokens_T.size for s in sequences], np.int32),
        np.array([s.budget_bin for s in sequences], np.int32),
        np.array([[a is not None for a in row] for row in rows], np.bool_),
        _concatenated([s.tokens_T for s in sequences], np.int32),
        _concatenated([s.mask_T for s in sequences], np.bool_),
        tuple(_concatenated(column, np.float32) for column in columns),
    )


def unpack_sequences(columns: SequenceColumns) -> list[TrainSequence]:
    """Inverse of `pack_sequences`; arrays are views of the columns."""
    lengths, present_SC = columns.lengths_S.tolist(), columns.present_SC
    tokens, masks = _split(columns.tokens_N, lengths), _split(columns.mask_N, lengths)
    optional: list[list[Floats | None]] = []
    for index, column in enumerate(columns.optional):
        has_S = present_SC[:, index].tolist()
        parts = iter(_split(column, [n for n, has in zip(lengths, has_S, strict=True) if has]))
        optional.append([next(parts) if has else None for has in has_S])
    rows = zip(tokens, masks, *optional, columns.bins_S.tolist(), strict=True)
    return [TrainSequence(*row) for row in rows] if lengths else []


def _concatenated(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype)


def _split(column_N: np.ndarray, lengths: Iterable[int]) -> list[np.ndarray]:
    parts, start = [], 0
    for length in lengths:
        parts.append(column_N[start : start + length])
        start += length
    return parts
