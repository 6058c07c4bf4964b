"""A limit that shrinks by a factor every so many steps."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.budget.draw import SCHEDULES, chooser
from bard_ray.plugins import require_within


@SCHEDULES.register("exponential")
@dataclass(frozen=True, slots=True)
class ExponentialSchedule:
    """Budgets of at most b(t) tokens.

        b(t) = max(1, start gamma^floor(t / every))

    Attributes:
        start: tokens at step 0.
        gamma: factor in (0, 1].
        every: nominal optimizer steps between two reductions.
        exact: only the budget nearest to b(t) instead of all up to it. Default false.

    Source: Train Long, Think Short, arXiv 2508.08940.
    """

    start: float
    gamma: float
    every: int
    exact: bool = False

    def __post_init__(self) -> None:
        require_within("start", self.start, 1)
        require_within("gamma", self.gamma, 0, 1, open_low=True)
        require_within("every", self.every, 1)

    def allowed(self, taught: tuple[int, ...], step: int) -> tuple[int, ...]:
        """Those up to b(step), or the nearest to it."""
        limit = max(1.0, self.start * self.gamma ** (step // self.every))
        return chooser(self.exact)(taught, limit)
