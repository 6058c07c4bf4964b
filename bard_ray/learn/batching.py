"""Row order of supervised training: a pure function of seed and step, so resuming needs no state.

Rows are not bucketed by length: packing mixes sequences of any length, so bucketing would not make
training faster, and with a token-mean loss it made the student worse (benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def num_sft_steps(num_rows: int, batch_rows: int, epochs: float) -> int:
    """Number of steps of a stage: `epochs` passes over the rows in full batches, at least one."""
    return max(1, round(num_rows * epochs / batch_rows))


def sft_batches(
    num_rows: int, batch_rows: int, epochs: float, seed: int, start: int = 0
) -> Iterator[list[int]]:
    """Yield the row indices of each step, starting with step `start`.

    Each epoch has its own permutation; a batch may span two epochs, so every batch is full.

    Raises:
        ValueError: there are no rows.
    """
    if num_rows < 1:
        raise ValueError("a stage needs rows")
    order: dict[int, np.ndarray] = {}
    for step in range(start, num_sft_steps(num_rows, batch_rows, epochs)):
        rows = []
        for position in range(step * batch_rows, (step + 1) * batch_rows):
            epoch, index = divmod(position, num_rows)
            if epoch not in order:
                order = {epoch: np.random.default_rng([seed, epoch]).permutation(num_rows)}
            rows.append(int(order[epoch][index]))
        yield rows
