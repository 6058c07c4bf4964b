"""From rewarded groups to the learner's input: one `TrainSequence` per rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from bard_ray.records import Floats, Group, Ints, Rollout, SegmentRole, TrainSequence
from bard_ray.rl.advantages import group_advantages, segment_advantages
from bard_ray.rl.bins import BudgetBins


def sequence_tokens(rollout: Rollout) -> Ints:
    """Prompt and completion ids, [T]."""
    return np.concatenate([s.tokens_T for s in rollout.segments])


def sampled_versions(rollout: Rollout) -> Ints:
    """The weight version that sampled each sampled token."""
    versions_T = np.concatenate([s.versions_T for s in rollout.segments])
    return versions_T[versions_T >= 0]


def train_sequence(
    rollout: Rollout, advantage: float | Floats, reference_T: Floats | None, budget_bin: int = 0
) -> TrainSequence:
    """The training sequence of a rollout; `advantage` is one number, or [T]."""
    mask_T = np.concatenate([s.mask_T for s in rollout.segments])
    return TrainSequence(
        tokens_T=sequence_tokens(rollout),
        mask_T=mask_T,
        advantages_T=np.where(mask_T, np.asarray(advantage, np.float32), np.float32(0)),
        behavior_T=np.concatenate([s.logprobs_T for s in rollout.segments]),
        reference_T=reference_T,
        budget_bin=budget_bin,
    )


def train_sequences(
    groups: Iterable[Group], bins: BudgetBins, *, std_normalize: bool
) -> list[TrainSequence]:
    """Training sequences of all rollouts of all groups, in order, with their advantages.

    Raises:
        ValueError: a group has no rewards.
    """
    sequences: list[TrainSequence] = []
    for group in groups:
        references = group.reference_logprobs or (None,) * len(group.rollouts)
        rows = zip(group.rollouts, _advantages(group, std_normalize), references, strict=True)
        sequences += [
            train_sequence(rollout, a, reference_T, bins.index(rollout.budget))
            for rollout, a, reference_T in rows
        ]
    return sequences


def _advantages(group: Group, std_normalize: bool) -> list[float | Floats]:
    """Advantage of each rollout: one number, or [T] where segments have their own rewards."""
    if group.rewards_G is None:
        msg = f"group {group.number} has no rewards"
        raise ValueError(msg)
    advantages_G = group_advantages(group.rewards_G, std_normalize=std_normalize)
    by_role = {
        role: segment_advantages(values_GS, std_normalize=std_normalize)
        for role, values_GS in group.segment_rewards.items()
    }
    if group.advantage_shift_G is not None:
        advantages_G = advantages_G + group.advantage_shift_G
        by_role = {role: a_GS + group.advantage_shift_G[:, None] for role, a_GS in by_role.items()}
    if not by_role:
        return [float(advantage) for advantage in advantages_G]
    return [
        _token_advantages(rollout, float(advantages_G[i]), {r: a[i] for r, a in by_role.items()})
        for i, rollout in enumerate(group.rollouts)
    ]


def _token_advantages(
    rollout: Rollout, otherwise: float, by_role: Mapping[SegmentRole, Floats]
) -> Floats:
    """[T]: the s-th segment of a role has that role's s-th advantage, all others `otherwise`."""
    seen: Counter[SegmentRole] = Counter()
    parts = []
    for segment in rollout.segments:
        own_S = by_role.get(segment.role, ())[seen[segment.role] :]
        seen[segment.role] += 1
        parts.append(np.full(segment.tokens_T.size, own_S[0] if len(own_S) else otherwise))
    return np.concatenate(parts).astype(np.float32)
