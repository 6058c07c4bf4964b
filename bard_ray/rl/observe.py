"""Step metrics of the RL loop, from its groups and times; defined in `bard_ray.metrics.TABLE`."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bard_ray.evals.metrics import in_band, overrun, rel_err
from bard_ray.metrics import BINS
from bard_ray.records import Group, Outcome, Rollout, token_limit
from bard_ray.rewards.parts import GroupParts, is_skipped
from bard_ray.rewards.reward import RewardedGroup
from bard_ray.rl.bins import BudgetBins
from bard_ray.rl.sequences import sampled_versions

if TYPE_CHECKING:
    from bard_ray.rl.flow import GroupFlow, StepCounts


@dataclass
class StepTimes:
    """A stopwatch with laps, wall seconds."""

    laps: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        """Record the time since the previous lap under `name`."""
        now = time.monotonic()
        self.laps[name] = now - self.last
        self.last = now

    @property
    def total_s(self) -> float:
        """Seconds from the start to the last lap."""
        return self.last - self.started


def token_lags(groups: Sequence[Group], version: int) -> np.ndarray:
    """Lag of every sampled token, optimizer steps: `version` minus the version that sampled it."""
    versions = [sampled_versions(r) for g in groups for r in g.rollouts]
    return version - np.concatenate(versions)


def max_lag(groups: Sequence[Group], version: int) -> int:
    """Largest lag of a batch, optimizer steps."""
    return int(token_lags(groups, version).max())


def step_metrics(
    rewarded: Sequence[RewardedGroup],
    version: int,
    flow: GroupFlow,
    clock: StepTimes,
    bins: BudgetBins,
) -> dict[str, float]:
    """All metrics of a step except those that the learner reports.

    Args:
        rewarded: the groups trained on.
        version: weight version before the step.
        flow: its counts are taken and reset.
        clock: times of the step.
        bins: budget bins.
    """
    counts, groups = flow.take_counts(), [each.group for each in rewarded]
    return {
        **{f"verdict/{outcome}": float(counts.outcomes[outcome]) for outcome in Outcome},
        **_policy_metrics(groups),
        **_reward_metrics([each.parts for each in rewarded]),
        **_own_metrics(rewarded),
        **_lag_metrics(groups, version),
        **binned_lags(groups, version, bins),
        **_binned_groups(groups, counts, bins),
        **_time_metrics(groups, counts, clock),
        "rl/groups_trained": float(len(groups)),
        "rl/groups_zero_variance": float(counts.zero_variance),
        "rl/groups_failed": float(counts.failed),
        "rl/groups_surplus": float(counts.surplus),
        "rl/groups_in_flight": float(flow.in_flight),
    }


def _binned_groups(
    groups: Sequence[Group], counts: StepCounts, bins: BudgetBins
) -> dict[str, float]:
    """Groups trained on and not trained on, by the bin of their first rollout's budget."""
    kinds = [("trained", group.request.budgets[0]) for group in groups] + counts.left_out
    found = Counter((kind, BINS[bins.index(budget)]) for kind, budget in kinds)
    return {
        f"bins/{kind}_{name}": float(found[kind, name])
        for kind in ("trained", "zero_variance", "surplus")
        for name in BINS
    }


def _policy_metrics(groups: Sequence[Group]) -> dict[str, float]:
    rollouts = [r for g in groups for r in g.rollouts]
    outcomes = Counter(v.outcome for g in groups for v in g.verdicts)
    rewards = np.concatenate([g.rewards_G for g in groups if g.rewards_G is not None])
    return {
        "rl/reward": float(rewards.mean()),
        "rl/accuracy": outcomes[Outcome.CORRECT] / len(rollouts),
        "rl/thinking_tokens": float(np.mean([r.thinking_tokens for r in rollouts])),
        "rl/truncated": float(np.mean([r.finish == "length" for r in rollouts])),
        "rl/unclosed": float(np.mean([not r.closed for r in rollouts])),
        "rl/skipped": float(np.mean([is_skipped(r) for r in rollouts])),
        "rl/extra_tags": float(np.mean([r.extra_tags > 0 for r in rollouts])),
        **_adherence_metrics(rollouts),
    }


def _reward_metrics(groups: Sequence[GroupParts]) -> dict[str, float]:
    """Means of the reward's parts; without fidelity where no rollout has a budget in tokens."""
    fidelity = np.concatenate([parts.fidelity_G for parts in groups])
    measured = fidelity[~np.isnan(fidelity)]
    return {
        "rl/leaking": float(np.mean(np.concatenate([parts.leaking_G for parts in groups]))),
        **({"rl/fidelity": float(measured.mean())} if measured.size else {}),
    }


def _own_metrics(rewarded: Sequence[RewardedGroup]) -> dict[str, float]:
    """Means of the metrics that the reward declares, without NaN."""
    values: dict[str, list[np.ndarray]] = defaultdict(list)
    for each in rewarded:
        for name, values_G in each.metrics.items():
            values[name].append(values_G)
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    return {
        f"reward/{name}": float(np.nanmean(values_N))
        for name, values_N in joined.items()
        if not np.isnan(values_N).all()
    }


def _adherence_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Means over the rollouts with a token budget; empty where there is none."""
    lengths: dict[int, list[int]] = defaultdict(list)
    for rollout in rollouts:
        limit = token_limit(rollout.budget)
        if limit is not None:
            lengths[limit].append(rollout.thinking_tokens)
    total = sum(map(len, lengths.values()))
    return {
        f"rl/{measure.__name__}": sum(measure(ls, b) * len(ls) for b, ls in lengths.items()) / total
        for measure in (rel_err, in_band, overrun)
        if total
    }


def _lag_metrics(groups: Sequence[Group], version: int) -> dict[str, float]:
    lags = token_lags(groups, version)
    return {
        "rl/lag_mean": float(lags.mean()),
        "rl/lag_max": float(lags.max()),
        "rl/version": float(version + 1),
    }


def binned_lags(groups: Sequence[Group], version: int, bins: BudgetBins) -> dict[str, float]:
    """Mean and largest lag of the tokens of each budget bin; bins without tokens are left out."""
    lags: dict[str, list[np.ndarray]] = defaultdict(list)
    for rollout in (r for g in groups for r in g.rollouts):
        lags[BINS[bins.index(rollout.budget)]].append(version - sampled_versions(rollout))
    values: dict[str, float] = {}
    for name, parts in lags.items():
        lags_N = np.concatenate(parts)
        if lags_N.size:
            values |= {
                f"bins/lag_mean_{name}": float(lags_N.mean()),
                f"bins/lag_max_{name}": float(lags_N.max()),
            }
    return values


def _time_metrics(
    groups: Sequence[Group], counts: StepCounts, clock: StepTimes
) -> dict[str, float]:
    """Times and rates of the step; role times are means over the groups since the last step."""
    served, total_s = max(1, counts.sampled), max(clock.total_s, 1e-9)
    tokens = sum(r.completion_tokens for g in groups for r in g.rollouts)
    return {
        "rl/tokens": float(tokens),
        "rl/tokens_per_s": tokens / total_s,
        "rl/samples_per_s": sum(len(g.rollouts) for g in groups) / total_s,
        "time/step_s": total_s,
        "time/generate_s": counts.sample_s / served,
        "time/grade_s": counts.grade_s / served,
        "time/reference_s": counts.reference_s / served,
        **{f"time/{name}": seconds for name, seconds in clock.laps.items()},
    }
