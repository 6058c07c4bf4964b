"""What a restart of the RL loop needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bard_ray.records import Budget, budget_label, parse_budget
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

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the version: a restart numbers on from what is loaded then."""
        return {
            "step": self.step,
            "ledger": asdict(self.ledger),
            "stats": asdict(self.stats),
            "asked": {
                str(n): [budget_label(b) for b in budgets] for n, budgets in self.asked.items()
            },
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> RLState:
        """Inverse of `to_json`; what was in flight is asked for again, under the same numbers."""
        ledger = Ledger(**saved["ledger"])
        ledger.admitted = ledger.consumed
        stats = BatchStats.from_json(saved["stats"])
        asked = {int(n): tuple(map(parse_budget, labels)) for n, labels in saved["asked"].items()}
        return cls(step=saved["step"], ledger=ledger, stats=stats, asked=asked)
