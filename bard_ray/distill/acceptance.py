"""How often a compressor fits a chain to a budget, for the data report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bard_ray.distill.compressor import Compressed, Reason


@dataclass(slots=True)
class Acceptance:
    """Results of the compression to one budget b.

    Attributes:
        requested: chains that were to be compressed to b.
        accepted: chains that were.
        reasons: why the others were not.
        attempts: texts requested from the writer, over all of these chains.
        tokens: sum of the accepted lengths.
        error: sum of |L - b| / b over the accepted chains, L their lengths.
        spare: good chains that were not needed (`Reason.SPARE`). They are not part of the above:
            they do not show how hard the budget is.
    """

    requested: int = 0
    accepted: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    tokens: int = 0
    error: float = 0.0
    spare: int = 0

    def to_json(self) -> dict[str, Any]:
        """Counts, and means per chain; a mean over nothing is None."""
        return {
            "requested": self.requested,
            "accepted": self.accepted,
            "share": _ratio(self.accepted, self.requested),
            "reasons": dict(sorted(self.reasons.items())),
            "mean_attempts": _ratio(self.attempts, self.requested),
            "mean_tokens": _ratio(self.tokens, self.accepted),
            "mean_error": _ratio(self.error, self.accepted),
            "spare": self.spare,
        }


@dataclass(slots=True)
class AcceptanceTable:
    """Acceptance by budget; what a compressor did not try (`other_budget`) is not counted."""

    budgets: dict[int, Acceptance] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Iterable[tuple[Compressed, int]]) -> AcceptanceTable:
        """The table of results, each with the length of its thinking in tokens of the student."""
        table = cls()
        for result, num_tokens in results:
            table.add(result.budget, num_tokens, result.reason, result.attempts)
        return table

    def add(self, budget: int, num_tokens: int, reason: str, attempts: int) -> None:
        """Count one result; its fields are those of `Compressed`."""
        if reason == Reason.OTHER_BUDGET:
            return
        row = self.budgets.setdefault(budget, Acceptance())
        if reason == Reason.SPARE:
            row.spare += 1
            return
        row.requested += 1
        row.attempts += attempts
        if reason:
            row.reasons[str(reason)] += 1
            return
        row.accepted += 1
        row.tokens += num_tokens
        row.error += abs(num_tokens - budget) / budget

    def to_json(self) -> Mapping[str, Any]:
        """Rows by budget, ascending."""
        return {str(budget): self.budgets[budget].to_json() for budget in sorted(self.budgets)}


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
