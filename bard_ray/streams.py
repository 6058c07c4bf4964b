"""Named streams of random numbers.

What is drawn follows from (seed, stream, index) alone, in any order.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Who draws. The numbers enter the seeds, so changing one changes every run that uses it."""

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
    """Generator of one item of one stream.

    Raises:
        ValueError: the seed or the index is negative.
    """
    return np.random.default_rng((seed, int(stream), index))
