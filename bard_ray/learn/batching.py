"""Order of the rows in supervised training.

It is a pure function of seed and step, so the step number is the whole cursor.

Rows are not bucketed by length: packing fills rows with sequences of any length, so speed does not
ask for it, and with a token-mean loss it made the student worse (benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def num_sft_steps(num_rows: int, batch_rows: int, epochs: float) -> int:
    """Steps of a stage: `epochs` passes over the rows in full batches, one step at least."""
    return max(1, round(num_rows * epochs / batch_rows))


def sft_batches(
    num_rows: int, batch_rows: int, epochs: float, seed: int, start: int = 0
) -> Iterator[list[int]]:
    """Row indices of each step from step `start` on.

    Each epoch is a permutation of its own; batches run on across epoch borders, so every batch is
    full.

    Raises:
        ValueError: there are no rows.
    """
    if num_rows < 1:
        raise ValueError("a stage needs rows")
    order: dict[int, np.ndarray] = {}
    for step in range(start, num_sft_steps(num_rows, batch_rows, epochs)):
        rows = []
        for place in range(step * batch_rows, (step + 1) * batch_rows):
            epoch, index = divmod(place, num_rows)
            if epoch not in order:
                order = {epoch: np.random.default_rng([seed, epoch]).permutation(num_rows)}
            rows.append(int(order[epoch][index]))
        yield rows
