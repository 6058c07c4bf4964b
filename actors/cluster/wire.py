"""Many small arrays on their way between actors, as a few long ones.

Ray pickles every array, and every record of ours, on its own in Python. A group of eight rollouts
holds about ninety small arrays: 1.6 ms on its way from the rollout worker to the driver, with the
interpreter lock held that the engine's thread needs, against 0.1 ms for the string of bytes built
here (measured). A learner step of 128 sequences holds 512.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bard_ray.records import Bools, Floats, Group, GroupRequest, Ints, Segment, TrainSequence

Ticket = tuple[int, int]  # which call asked, and the group's admission number
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
OPTIONAL = ("advantages_T", "behavior_T", "reference_T")  # what a `TrainSequence` may lack


def pack_groups(groups: Iterable[tuple[Ticket, Group]]) -> bytes:
    """Rollouts of several groups; the requests stay behind, since the driver has them.

    Segments that rollouts share, such as the prompt, travel once.
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
    """The groups again, without those that are no longer wanted.

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
    """The four arrays of all segments, end to end."""
    if not segments:
        return ()
    names = ("tokens_T", "logprobs_T", "mask_T", "versions_T")
    tokens, logprobs, mask, versions = (
        np.concatenate([getattr(segment, name) for segment in segments]) for name in names
    )
    return tokens, logprobs, mask, versions


class SequenceColumns(NamedTuple):
    """Arrays of S sequences end to end, C of them optional.

    Attributes:
        lengths_S: tokens of each sequence.
        bins_S: its budget bin.
        present_SC: which of `OPTIONAL` it has.
        tokens_N: all token ids; beside them the mask.
        optional: one column for each of `OPTIONAL`, without the sequences that lack it.
    """

    lengths_S: Ints
    bins_S: Ints
    present_SC: Bools
    tokens_N: Ints
    mask_N: Bools
    optional: tuple[Floats, ...]


def pack_sequences(sequences: Sequence[TrainSequence]) -> SequenceColumns:
    """A learner's share of a step; the arrays travel outside the pickle, without a copy."""
    rows = [[getattr(s, name) for name in OPTIONAL] for s in sequences]
    columns = [[a for a in column if a is not None] for column in zip(*rows, strict=True)]
    return SequenceColumns(
        np.array([s.tokens_T.size for s in sequences], np.int32),
        np.array([s.budget_bin for s in sequences], np.int32),
        np.array([[a is not None for a in row] for row in rows], np.bool_),
        _end_to_end([s.tokens_T for s in sequences], np.int32),
        _end_to_end([s.mask_T for s in sequences], np.bool_),
        tuple(_end_to_end(column, np.float32) for column in columns),
    )


def unpack_sequences(columns: SequenceColumns) -> list[TrainSequence]:
    """The sequences again; their arrays are views of the columns."""
    lengths, present_SC = columns.lengths_S.tolist(), columns.present_SC
    tokens, masks = _cut(columns.tokens_N, lengths), _cut(columns.mask_N, lengths)
    optional: list[list[Floats | None]] = []
    for index, column in enumerate(columns.optional):
        has_S = present_SC[:, index].tolist()
        cut = iter(_cut(column, [n for n, has in zip(lengths, has_S, strict=True) if has]))
        optional.append([next(cut) if has else None for has in has_S])
    rows = zip(tokens, masks, *optional, columns.bins_S.tolist(), strict=True)
    return [TrainSequence(*row) for row in rows] if lengths else []


def _end_to_end(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype)


def _cut(column_N: np.ndarray, lengths: Iterable[int]) -> list[np.ndarray]:
    parts, start = [], 0
    for length in lengths:
        parts.append(column_N[start : start + length])
        start += length
    return parts
