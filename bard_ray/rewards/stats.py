"""Running statistics over the groups of past steps, which rewards and samplers may read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bard_ray.records import TokenBudget, budget_label, parse_budget
from bard_ray.rewards.parts import GroupParts, is_skipped

DECAY = 0.9  # the weight of a step falls to about a third after ten more steps; ours


class RolloutStat(NamedTuple):
    """One rollout: its budget's label, then the columns of `Means`."""

    budget: str
    accuracy: float
    tokens: float
    skipped: float
    overrun: float


@dataclass(frozen=True, slots=True)
class Means:
    """Running means over rollouts.

    Attributes:
        accuracy: share of rollouts with a right and well-formed answer.
        tokens: charged thinking tokens.
        skipped: share of rollouts that skipped thinking (`is_skipped`).
        overrun: share of rollouts with more charged thinking tokens than their budget allows.
    """

    accuracy: float
    tokens: float
    skipped: float
    overrun: float

    def toward(self, new: Means) -> Means:
        """Each mean updated: DECAY x old + (1 - DECAY) x new."""
        old_values, new_values = asdict(self), asdict(new)
        return Means(**{k: DECAY * old_values[k] + (1 - DECAY) * new_values[k] for k in old_values})


@dataclass
class BatchStats:
    """Statistics over the steps so far.

    They are updated at step boundaries only, in admission order, from all groups that left the
    admission window in that step (trained and zero-variance ones, not failed ones). With
    `rl.max_lag=0` every group of a step is rewarded between two boundaries, so all of them see the
    same statistics; these are part of the checkpoint, so a resumed run sees them again, bit for
    bit. With a larger lag a group sees the statistics of the step that is being trained when it is
    graded. Rewards must not modify them.

    Attributes:
        step: optimizer steps done; selects the stage of a staged reward.
        overall: running means over all rollouts; None before the first step.
        by_budget: running means for each budget so far, by label (`27`, `effort=0.5`, `none`).
    """

    step: int = 0
    overall: Means | None = None
    by_budget: dict[str, Means] = field(default_factory=dict)

    def observe(self, rollouts: Iterable[RolloutStat]) -> None:
        """Update the statistics with the rollouts of one more step."""
        self.step += 1
        by_budget: dict[str, list[RolloutStat]] = defaultdict(list)
        for rollout in rollouts:
            by_budget[rollout.budget].append(rollout)
        for name, of_budget in by_budget.items():
            self.by_budget[name] = _updated(self.by_budget.get(name), of_budget)
        everything = [rollout for of_budget in by_budget.values() for rollout in of_budget]
        if everything:
            self.overall = _updated(self.overall, everything)

    def accuracy_by_tokens(self) -> dict[int, float]:
        """Running accuracy for each token budget, by its number of tokens."""
        found = {parse_budget(name): means.accuracy for name, means in self.by_budget.items()}
        return {b.tokens: a for b, a in found.items() if isinstance(b, TokenBudget)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> BatchStats:
        """Inverse of `dataclasses.asdict`, also after a round trip through JSON."""
        overall = None if saved["overall"] is None else Means(**saved["overall"])
        return cls(
            saved["step"], overall, {name: Means(**m) for name, m in saved["by_budget"].items()}
        )


def rollout_stats(parts: GroupParts) -> list[RolloutStat]:
    """The statistics' inputs of a group, small enough to be kept until its step ends."""
    overrun_G = parts.tokens_G > parts.budget_tokens_G
    columns = zip(parts.accuracy_G, parts.tokens_G, overrun_G, strict=True)
    return [
        RolloutStat(
            budget_label(r.budget), float(right), float(tokens), float(is_skipped(r)), float(over)
        )
        for r, (right, tokens, over) in zip(parts.group.rollouts, columns, strict=True)
    ]


def _updated(old: Means | None, rollouts: Sequence[RolloutStat]) -> Means:
    columns = np.array([rollout[1:] for rollout in rollouts])
    new = Means(*columns.mean(axis=0).tolist())
    return new if old is None else old.toward(new)
