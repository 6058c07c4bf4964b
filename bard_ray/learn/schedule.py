"""Learning-rate schedules as pure functions of the step.

Both warm up linearly, reach `peak` at the last warm-up step and `peak * min_ratio` at the last
step. The decay is a half cosine in supervised stages and linear in reinforcement learning.
"""

from __future__ import annotations

import math


def warmup_cosine(step: int, num_steps: int, warmup: int, peak: float, min_ratio: float) -> float:
    """Linear warm-up, then half-cosine decay.

    Math:
        while step < warmup:
            lr = peak * (step + 1) / warmup
        after, with p = progress in (0, 1]:
            lr = peak * (min_ratio + (1 - min_ratio) * (1 + cos(pi * p)) / 2)

    Args:
        step: step about to run, from 0.
        num_steps: steps of the stage.
        warmup: warm-up steps.
        peak: largest learning rate.
        min_ratio: last learning rate over the largest.

    Returns:
        The learning rate of that step.

    Source: Loshchilov and Hutter 2017 (SGDR), equation 5, with one cycle; the warm-up is ours.
    """
    share = (1.0 + math.cos(math.pi * _progress(step, num_steps, warmup))) / 2.0
    return peak * _warmup(step, warmup) * (min_ratio + (1.0 - min_ratio) * share)


def warmup_linear(step: int, num_steps: int, warmup: int, peak: float, min_ratio: float) -> float:
    """Linear warm-up, then linear decay.

    Math:
        while step < warmup:
            lr = peak * (step + 1) / warmup
        after, with p = progress in (0, 1]:
            lr = peak * (1 - (1 - min_ratio) * p)

    Args:
        step: step about to run, from 0.
        num_steps: steps of the stage.
        warmup: warm-up steps.
        peak: largest learning rate.
        min_ratio: last learning rate over the largest.

    Returns:
        The learning rate of that step.

    Source: ours.
    """
    return (
        peak
        * _warmup(step, warmup)
        * (1.0 - (1.0 - min_ratio) * _progress(step, num_steps, warmup))
    )


def _warmup(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / max(1, warmup))


def _progress(step: int, num_steps: int, warmup: int) -> float:
    """Progress of the decay: 0 up to the last warm-up step, 1 at the last step and after it."""
    return min(1.0, max(0.0, (step + 1 - warmup) / max(1, num_steps - warmup)))
