"""Group-relative advantages."""

from __future__ import annotations

import numpy as np

from bard_ray.records import Floats

FLAT_STD = 1e-6  # reward spread below which a group carries no signal


def is_flat(rewards_G: Floats) -> bool:
    """True where all rewards of a group are equal: every advantage would be 0."""
    return bool(np.ptp(rewards_G) <= FLAT_STD)


def group_advantages(rewards_G: Floats, *, std_normalise: bool) -> Floats:
    """Advantage of each rollout relative to its group.

    A_i = r_i - mean(r), divided by std(r) (population) + 1e-6 where `std_normalise`.

    Args:
        rewards_G: one reward a rollout, [G].
        std_normalise: divide by the spread.

    Returns:
        [G] advantages with mean 0.

    Source: GRPO, arXiv 2402.03300, section 4.1; without the division: Dr. GRPO, arXiv 2503.20783.
    """
    centred_G = rewards_G - rewards_G.mean()
    scale = float(rewards_G.std()) + FLAT_STD if std_normalise else 1.0
    return (centred_G / scale).astype(np.float32)
