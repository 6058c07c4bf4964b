"""Groups as the learner sees them: one `TrainSequence` a rollout."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bard_ray.records import Floats, Group, Ints, Rollout, TrainSequence
from bard_ray.rl.advantages import group_advantages
from bard_ray.rl.bins import BudgetBins


def sequence_tokens(rollout: Rollout) -> Ints:
    """Prompt and completion ids, [T]."""
    return np.concatenate([s.tokens_T for s in rollout.segments])


def sampled_versions(rollout: Rollout) -> Ints:
    """Weight version of every sampled token."""
    versions_T = np.concatenate([s.versions_T for s in rollout.segments])
    return versions_T[versions_T >= 0]


def train_sequence(
    rollout: Rollout, advantage: float, reference_T: Floats | None, budget_bin: int = 0
) -> TrainSequence:
    """One rollout with its advantage on every trained token."""
    mask_T = np.concatenate([s.mask_T for s in rollout.segments])
    return TrainSequence(
        tokens_T=sequence_tokens(rollout),
        mask_T=mask_T,
        advantages_T=np.where(mask_T, np.float32(advantage), np.float32(0)),
        behaviour_T=np.concatenate([s.logprobs_T for s in rollout.segments]),
        reference_T=reference_T,
        budget_bin=budget_bin,
    )


def train_sequences(
    groups: Iterable[Group], bins: BudgetBins, *, std_normalise: bool
) -> list[TrainSequence]:
    """Every rollout of every group, in order, with group-relative advantages.

    Raises:
        ValueError: a group was never rewarded.
    """
    sequences: list[TrainSequence] = []
    for group in groups:
        if group.rewards_G is None:
            msg = f"group {group.number} has no rewards"
            raise ValueError(msg)
        advantages_G = group_advantages(group.rewards_G, std_normalise=std_normalise)
        references = group.reference_logprobs or (None,) * len(group.rollouts)
        rows = zip(group.rollouts, advantages_G, references, strict=True)
        sequences += [
            train_sequence(rollout, float(a), reference_T, bins.index(rollout.budget))
            for rollout, a, reference_T in rows
        ]
    return sequences
