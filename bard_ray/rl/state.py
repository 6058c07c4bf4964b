"""What a restart of the RL loop needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from bard_ray.budget.signal import Budget
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.admission import Ledger


@dataclass
class RLState:
    """What a restart needs.

    That is: steps done, weight version of step 0, where every admitted group went, what the rewards
    know of the past, and the budgets of the groups that were in flight.
    """

    step: int = 0
    base_version: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    stats: BatchStats = field(default_factory=BatchStats)
    asked: dict[int, tuple[Budget, ...]] = field(default_factory=dict)
