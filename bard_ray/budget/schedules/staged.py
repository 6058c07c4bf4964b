"""A limit that changes at given steps."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.budget.draw import SCHEDULES, chooser
from bard_ray.plugins import require_within


@SCHEDULES.register("staged")
@dataclass(frozen=True, slots=True)
class StagedSchedule:
    """Budgets of at most b(t) tokens, b(t) the limit of the last stage begun by step t.

    Attributes:
        stages: pairs of a nominal optimizer step and a limit in tokens, the first at step 0, in
            order: [[0, 8000], [500, 4000]].
        exact: only the budget nearest to the limit instead of all up to it. Default false.

    Source: ours; AceReason-Nemotron (arXiv 2505.16400) stages the longest answer in this way.
    """

    stages: tuple[tuple[int, float], ...]
    exact: bool = False

    def __post_init__(self) -> None:
        pairs = [tuple(stage) for stage in self.stages]
        steps = [stage[0] for stage in pairs if len(stage) == 2 and type(stage[0]) is int]
        if len(steps) < len(pairs) or not steps or steps[0] != 0 or steps != sorted(set(steps)):
            msg = f"stages must be [step, tokens] pairs from step 0 on, in order: {pairs}"
            raise ValueError(msg)
        for _, tokens in pairs:
            require_within("each limit of stages", tokens, 1)

    def allowed(self, taught: tuple[int, ...], step: int) -> tuple[int, ...]:
        """Those up to the limit of the stage, or the nearest to it."""
        limit = [tokens for begins, tokens in self.stages if begins <= step][-1]
        return chooser(self.exact)(taught, limit)
