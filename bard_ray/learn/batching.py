"""Order of the rows in supervised training: a pure function of seed and step, so the step number is the whole cursor.

Packing fills rows with sequences of any length, so bucketing by length is not needed for speed; see `sft_batches` for
what it does to the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def num_sft_steps(num_rows: int, batch_rows: int, epochs: float) -> int:
    """Steps of a stage: `epochs` passes over the rows in full batches, one step at least."""
    return max(1, round(num_rows * epochs / batch_rows))


def sft_batches(
    lengths: Sequence[int], batch_rows: int, epochs: float, seed: int, bucket: int = 0, start: int = 0
) -> Iterator[list[int]]:
    """Row indices of each step from step `start` on.

    Each epoch is a permutation of its own; batches run on across epoch borders, so every batch is full.

    Args:
        lengths: tokens of every row.
        batch_rows: rows of one step.
        epochs: passes over the rows.
        seed: of the order.
        bucket: sort by length within windows of that many batches, so that a step's rows are about equally long. With
            a token-mean loss that gives short rows the weight of long ones; 0 or 1 mixes lengths.
        start: first step wanted.

    Raises:
        ValueError: there are no rows.
    """
    if not lengths:
        raise ValueError("a stage needs rows")
    order: dict[int, np.ndarray] = {}
    for step in range(start, num_sft_steps(len(lengths), batch_rows, epochs)):
        rows = []
        for place in range(step * batch_rows, (step + 1) * batch_rows):
            epoch, index = divmod(place, len(lengths))
            if epoch not in order:
                order = {
                    epoch: _epoch_order(np.asarray(lengths), batch_rows, bucket, np.random.default_rng([seed, epoch]))
                }
            rows.append(int(order[epoch][index]))
        yield rows


def _epoch_order(lengths: np.ndarray, batch_rows: int, bucket: int, generator: np.random.Generator) -> np.ndarray:
    """All rows once, in the order one epoch takes them."""
    order = generator.permutation(len(lengths))
    if bucket < 2:
        return order
    window = bucket * batch_rows
    windows = [order[i : i + window] for i in range(0, len(order), window)]
    order = np.concatenate([w[np.argsort(lengths[w], kind="stable")] for w in windows])
    whole = len(order) // batch_rows * batch_rows
    batches = order[:whole].reshape(-1, batch_rows)
    return np.concatenate([batches[generator.permutation(len(batches))].ravel(), order[whole:]])
