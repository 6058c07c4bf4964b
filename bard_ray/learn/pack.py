"""Packing: sequences into rows, rows into micro-batches, micro-batches over ranks.

Padding is wasted computation, so sequences share rows. Inside a row, positions restart at 0 with
every sequence; transformers derives the sequence boundaries from these restarts (if it gets no
attention mask) and restricts attention to each sequence. The padding at a row's end is one more
sequence, so there is no attention between it and the tokens.

Axes: R rows of a micro-batch, T tokens of a row, N trained tokens of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np

from bard_ray.errors import ConfigError, InvariantError
from bard_ray.records import Bools, Floats, Ints, TrainSequence

ROW_COUNTS = 4  # row counts tried when rows are balanced


@dataclass(frozen=True, slots=True)
class PackSpec:
    """Sizes of rows and micro-batches.

    Attributes:
        row_tokens: tokens of a row, padding included; no sequence may be longer.
        rows: rows of a micro-batch at most.
    """

    row_tokens: int
    rows: int

    @classmethod
    def of(cls, pack_len: int, micro_tokens: int, attention: str) -> PackSpec:
        """The sizes for `learner.pack_len`, `learner.micro_tokens` and `learner.attention`.

        Flash attention gets one long row, since transformers uses the variable-length kernels for a
        batch of one only.
        """
        if attention == "flash_attention_2":
            return cls(row_tokens=max(pack_len, micro_tokens), rows=1)
        return cls(row_tokens=pack_len, rows=max(1, micro_tokens // pack_len))


@dataclass(frozen=True, slots=True)
class Span:
    """The place of one sequence: tokens `start` to `start + length` of `row`."""

    sequence: int
    row: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Packed rows. Arrays are aligned with the tokens; parts that a sequence lacks are 0.

    Attributes:
        positions_RT: position of each token in its own sequence.
        mask_RT: tokens that enter the loss; never the first one of a sequence.
        sequence_RT: index of each token's sequence, as passed to `pack`.
        bin_RT: index of its budget bin.
        spans: place of each sequence, for `unpack`.
    """

    tokens_RT: Ints
    positions_RT: Ints
    mask_RT: Bools
    advantages_RT: Floats
    behavior_RT: Floats
    reference_RT: Floats
    sequence_RT: Ints
    bin_RT: Ints
    spans: tuple[Span, ...]

    @property
    def num_tokens(self) -> int:
        """Number of tokens, without padding."""
        return sum(span.length for span in self.spans)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How one step is split over the ranks.

    Attributes:
        shares: indices of the sequences of each rank.
        num_micro_batches: micro-batches that every rank runs.
    """

    shares: tuple[tuple[int, ...], ...]
    num_micro_batches: int


def split_balanced(lengths: Sequence[int], ranks: int) -> tuple[tuple[int, ...], ...]:
    """Indices of the sequences of each rank, in ascending order, with nearly equal token counts.

    Greedy: longest sequence first, each to the rank with the fewest tokens so far, ties to the
    lowest rank. Token counts differ by at most the longest sequence.
    """
    return tuple(tuple(sorted(share)) for share in _spread(lengths, ranks))


def plan_step(lengths: Sequence[int], ranks: int, spec: PackSpec) -> StepPlan:
    """Split a step over ranks, and find how many micro-batches the rank with the most needs.

    Every rank runs that many: ZeRO-3 gathers parameters in forward and backward, so all ranks must
    run the same number of passes.
    """
    shares = split_balanced(lengths, ranks)
    counts = [len(_group_rows([lengths[i] for i in share], spec)) for share in shares]
    return StepPlan(shares, max(1, *counts))


def assign_rows(lengths: Sequence[int], row_tokens: int, multiple: int = 1) -> list[list[int]]:
    """Indices of the sequences of each row: the better of two heuristics, by total padded size.

    First-fit decreasing needs few rows. But a micro-batch is as wide as its fullest row, so
    balanced rows may have less padding, and additional, shorter rows are free as long as they need
    no further micro-batch. So a few row counts up to the next multiple are tried, each with the
    longest sequence first into the emptiest row. The smallest rows x width wins.

    Args:
        lengths: tokens of each sequence.
        row_tokens: capacity of a row.
        multiple: rows of a micro-batch.

    Returns:
        The rows, none of them empty.

    Raises:
        ConfigError: a sequence is longer than a row.
    """
    first = _first_fit(lengths, row_tokens)
    most = min(-(-len(first) // multiple) * multiple, len(lengths))
    counts = range(len(first), most + 1, max(1, (most - len(first)) // ROW_COUNTS))
    spread = [_spread(lengths, count) for count in counts if count]

    def area(rows: list[list[int]]) -> int:
        return len(rows) * max((sum(lengths[i] for i in row) for row in rows), default=0)

    fitting = [rows for rows in spread if area(rows) <= len(rows) * row_tokens]
    return min([*fitting, first], key=area)


def _first_fit(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """First-fit decreasing: indices of the sequences of each row."""
    rows: list[list[int]] = []
    free = np.zeros(len(lengths), np.int64)
    for index in _longest_first(lengths):
        length = lengths[index]
        if length > row_tokens:
            rule = f"one sequence has {length} tokens and does not fit into a row"
            raise ConfigError(
                "learner.pack_len",
                row_tokens,
                rule,
                "Raise learner.pack_len or lower student.max_len.",
            )
        fits = np.flatnonzero(free[: len(rows)] >= length)
        row = int(fits[0]) if fits.size else len(rows)
        if row == len(rows):
            rows.append([])
            free[row] = row_tokens
        rows[row].append(index)
        free[row] -= length
    return rows


def pack(
    sequences: Sequence[TrainSequence], spec: PackSpec, num_micro_batches: int = 0
) -> list[MicroBatch]:
    """Pack sequences into micro-batches: exactly `num_micro_batches`, if that is not 0.

    Micro-batches without sequences have an empty mask.

    Raises:
        ConfigError: a sequence is longer than a row.
        InvariantError: more micro-batches are needed than were planned, or the mask of a sequence
            has its first token.
    """
    if any(s.mask_T[:1].any() for s in sequences):
        raise InvariantError(
            "the first token of a sequence has no prediction and cannot enter the loss"
        )
    groups = _group_rows([s.tokens_T.size for s in sequences], spec)
    if num_micro_batches and len(groups) > num_micro_batches:
        raise InvariantError(f"{len(groups)} micro-batches where {num_micro_batches} were planned")
    groups += [[[]]] * (num_micro_batches - len(groups))
    return [_micro_batch(sequences, rows) for rows in groups]


def unpack(
    batches: Sequence[MicroBatch], values: Sequence[Floats], num_sequences: int
) -> list[Floats]:
    """Convert token values from micro-batches, [R, T], to one array [T] per sequence.

    Sequences are in the order in which they were passed to `pack`.
    """
    found: dict[int, Floats] = {}
    for batch, values_RT in zip(batches, values, strict=True):
        for span in batch.spans:
            found[span.sequence] = values_RT[span.row, span.start : span.start + span.length].copy()
    return [found[i] for i in range(num_sequences)]


def _spread(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Balance greedily: longest first, each to the part with the fewest tokens, or the first."""
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, part) for part in range(count)]  # a heap
    for index in _longest_first(lengths):
        load, part = heappop(loads)
        parts[part].append(index)
        heappush(loads, (load + lengths[index], part))
    return parts


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def _group_rows(lengths: Sequence[int], spec: PackSpec) -> list[list[list[int]]]:
    """Rows of each micro-batch: as few micro-batches as possible, with rows spread evenly."""
    rows = assign_rows(lengths, spec.row_tokens, spec.rows)
    count = -(-len(rows) // spec.rows)
    edges = [len(rows) * i // count for i in range(count + 1)] if count else [0]
    return [rows[a:b] for a, b in pairwise(edges)]


def _micro_batch(sequences: Sequence[TrainSequence], rows: Sequence[Sequence[int]]) -> MicroBatch:
    """Lay sequences out row by row; the width is that of the fullest row."""
    spans = tuple(_spans(sequences, rows))
    # At least two tokens, since an empty micro-batch has to run as well.
    shape = len(rows), max([2, *(span.start + span.length for span in spans)])

    def laid_out(
        part: Callable[[TrainSequence], Ints | Floats | Bools | None], dtype: type
    ) -> np.ndarray:
        array_RT: np.ndarray = np.zeros(shape, dtype)
        for span in spans:
            part_T = part(sequences[span.sequence])
            if part_T is not None:
                array_RT[span.row, span.start : span.start + span.length] = part_T
        return array_RT

    return MicroBatch(
        tokens_RT=laid_out(lambda s: s.tokens_T, np.int32),
        positions_RT=_positions(spans, shape),
        mask_RT=laid_out(lambda s: s.mask_T, np.bool_),
        advantages_RT=laid_out(lambda s: s.advantages_T, np.float32),
        behavior_RT=laid_out(lambda s: s.behavior_T, np.float32),
        reference_RT=laid_out(lambda s: s.reference_T, np.float32),
        sequence_RT=_numbers(spans, shape),
        bin_RT=laid_out(lambda s: np.full(s.tokens_T.size, s.budget_bin, np.int32), np.int32),
        spans=spans,
    )


def _numbers(spans: Sequence[Span], shape: tuple[int, int]) -> Ints:
    numbers_RT = np.zeros(shape, np.int32)
    for span in spans:
        numbers_RT[span.row, span.start : span.start + span.length] = span.sequence
    return numbers_RT


def _spans(sequences: Sequence[TrainSequence], rows: Sequence[Sequence[int]]) -> list[Span]:
    spans = []
    for row, members in enumerate(rows):
        start = 0
        for index in members:
            length = int(sequences[index].tokens_T.size)
            spans.append(Span(index, row, start, length))
            start += length
    return spans


def _positions(spans: Sequence[Span], shape: tuple[int, int]) -> Ints:
    """Positions that restart at every sequence and at the padding."""
    starts_RT = np.zeros(shape, np.int32)
    for span in spans:
        end = span.start + span.length  # where the next sequence or the padding starts
        if end < shape[1]:
            starts_RT[span.row, end] = end
    return np.arange(shape[1], dtype=np.int32) - np.maximum.accumulate(starts_RT, axis=1)
