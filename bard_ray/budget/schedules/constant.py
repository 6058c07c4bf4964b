"""No schedule."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.budget.draw import SCHEDULES


@SCHEDULES.register("constant")
@dataclass(frozen=True, slots=True)
class ConstantSchedule:
    """All budgets of `budget.train` at every step. Source: ours."""

    def allowed(self, taught: tuple[int, ...], step: int) -> tuple[int, ...]:
        """All of them."""
        return taught
