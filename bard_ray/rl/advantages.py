"""Group-relative advantages of rollouts and of segments, and the test for zero variance."""

from __future__ import annotations

import numpy as np

from bard_ray.records import Floats, Group

MIN_REWARD_STD = 1e-6  # reward range of a zero-variance group at most; epsilon of the division


def has_zero_variance(rewards_G: Floats) -> bool:
    """True where all rewards of a group are equal: every advantage would be 0."""
    return bool(np.ptp(rewards_G) <= MIN_REWARD_STD)


def group_advantages(rewards_G: Floats, *, std_normalize: bool) -> Floats:
    """Advantage of each rollout relative to its group.

    A_i = r_i - mean(r), divided by std(r) (population) + 1e-6 where `std_normalize`.

    Args:
        rewards_G: one reward per rollout, [G].
        std_normalize: divide by the standard deviation.

    Returns:
        [G] advantages with mean 0.

    Source: GRPO, arXiv 2402.03300, section 4.1; without the division: Dr. GRPO, arXiv 2503.20783.
    """
    centered_G = rewards_G - rewards_G.mean()
    scale = float(rewards_G.std()) + MIN_REWARD_STD if std_normalize else 1.0
    return (centered_G / scale).astype(np.float32)


def segment_advantages(values_GS: Floats, *, std_normalize: bool) -> Floats:
    """Advantage of each segment relative to the same segment of the group's other rollouts.

    `group_advantages` of each column, over the rollouts that have such a segment.

    Args:
        values_GS: column s holds the reward of the s-th segment of one role; NaN where a rollout
            has no such segment.
        std_normalize: divide by the standard deviation of the column.

    Returns:
        [G, S]; 0 where there is no segment.

    Source: ours; BRPO (arXiv 2505.13438) needs it.
    """
    advantages_GS = np.zeros_like(values_GS)
    for column, values_G in enumerate(values_GS.T):
        present_G = ~np.isnan(values_G)
        if present_G.any():
            advantages_GS[present_G, column] = group_advantages(
                values_G[present_G], std_normalize=std_normalize
            )
    return advantages_GS


def has_signal(group: Group) -> bool:
    """True where the rewards of a group's rollouts, or those of a segment, are not all equal."""
    if group.rewards_G is None:
        return False
    columns = [column for values_GS in group.segment_rewards.values() for column in values_GS.T]
    present = [column[~np.isnan(column)] for column in columns]
    return not all(
        has_zero_variance(values) for values in [group.rewards_G, *present] if values.size
    )
