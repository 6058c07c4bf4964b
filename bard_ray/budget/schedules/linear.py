"""A limit that moves at a constant rate."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.budget.draw import SCHEDULES, chooser
from bard_ray.plugins import require_within


@SCHEDULES.register("linear")
@dataclass(frozen=True, slots=True)
class LinearSchedule:
    """Budgets of at most b(t) tokens.

        b(t) = start + (end - start) min(1, t / steps)

    Attributes:
        start, end: tokens; larger to smaller compresses, smaller to larger lengthens.
        steps: nominal optimizer steps from one to the other.
        exact: only the budget nearest to b(t) instead of all up to it. Default false.

    Source: the linear form of Train Long, Think Short, arXiv 2508.08940.
    """

    start: float
    end: float
    steps: int
    exact: bool = False

    def __post_init__(self) -> None:
        require_within("start", self.start, 1)
        require_within("end", self.end, 1)
        require_within("steps", self.steps, 1)

    def allowed(self, taught: tuple[int, ...], step: int) -> tuple[int, ...]:
        """Those up to b(step), or the nearest to it."""
        limit = self.start + (self.end - self.start) * min(1.0, step / self.steps)
        return chooser(self.exact)(taught, limit)
