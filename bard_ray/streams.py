"""Named random streams: a draw depends on (seed, stream, index) only, not on the order of draws."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is used for. The numbers enter the seeds, so they must not be changed."""

    TRAIN = 0
    BASE = 1
    EVAL = 2
    RL = 3
    BUDGETS = 4
    DISTILL = 5
    SHUFFLE = 6
    CHOICES = 7
    SMOKE = 12


def rng(seed: int, stream: Stream, index: int = 0) -> np.random.Generator:
    """The generator of one item of a stream.

    Raises:
        ValueError: the seed or the index is negative.
    """
    return np.random.default_rng((seed, int(stream), index))
