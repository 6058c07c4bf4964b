"""What a restart of the RL loop needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bard_ray.records import Budget, budget_label, parse_budget
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.admission import Ledger
from bard_ray.rl.versions import WeightVersions


@dataclass
class RLState:
    """What a restart needs.

    Attributes:
        step: optimizer steps done.
        ledger: where every admitted group went.
        stats: what rewards and budget samplers know of the steps before.
        asked: budgets of the groups in flight, by admission number.
        versions: the newest one is that of the learner's weights.
    """

    step: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    stats: BatchStats = field(default_factory=BatchStats)
    asked: dict[int, tuple[Budget, ...]] = field(default_factory=dict)
    versions: WeightVersions = field(default_factory=WeightVersions)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "step": self.step,
            "version": self.versions.newest,
            "ledger": asdict(self.ledger),
            "stats": asdict(self.stats),
            "asked": {
                str(n): [budget_label(b) for b in budgets] for n, budgets in self.asked.items()
            },
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], versions: WeightVersions) -> RLState:
        """Inverse of `to_json`; groups in flight are requested again, under the same numbers.

        Args:
            saved: what `to_json` gave.
            versions: the counter of this command; its newest version becomes that of the weights.
        """
        versions.restored(saved["version"])
        ledger = Ledger(**saved["ledger"])
        ledger.admitted = ledger.consumed
        stats = BatchStats.from_json(saved["stats"])
        asked = {int(n): tuple(map(parse_budget, labels)) for n, labels in saved["asked"].items()}
        return cls(saved["step"], ledger, stats, asked, versions)
