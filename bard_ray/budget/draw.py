"""What a budget sampler and a budget schedule are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from bard_ray.errors import DataError
from bard_ray.plugins import Registry
from bard_ray.records import Question


@dataclass(frozen=True, slots=True)
class Draw:
    """What a sampler may use.

    Attributes:
        taught: all budgets of `budget.train`, tokens, ascending.
        allowed: those that the schedule allows now; never empty.
        group_size: G, rollouts of the group.
        question: the group's question.
        accuracy: running share of right answers under each budget asked so far, by its tokens.
    """

    taught: tuple[int, ...]
    allowed: tuple[int, ...]
    group_size: int
    question: Question
    accuracy: Mapping[int, float] = field(default_factory=dict)


class BudgetSampler(Protocol):
    """Chooses the budgets of a group."""

    def budgets(self, draw: Draw, generator: np.random.Generator) -> tuple[int, ...]:
        """G budgets in tokens, each one of `draw.allowed`."""
        ...


class BudgetSchedule(Protocol):
    """Chooses which budgets may be asked for at a step.

    It picks among the budgets taught and never makes new ones, so that held-out budgets stay
    unseen and every budget fits the lengths that were checked.
    """

    def allowed(self, taught: tuple[int, ...], step: int) -> tuple[int, ...]:
        """Those of `taught` (ascending) that may be drawn at nominal step `step`; at least one."""
        ...


SAMPLERS: Registry[BudgetSampler] = Registry(
    "budget.sampler", "bard_ray.budget.samplers", method="budgets"
)
SCHEDULES: Registry[BudgetSchedule] = Registry(
    "budget.schedule", "bard_ray.budget.schedules", method="allowed"
)


def one_of(choices: Sequence[int], weights: Sequence[float], generator: np.random.Generator) -> int:
    """One of the choices with probability proportional to its weight; uniform if all are 0."""
    total = sum(weights)
    shares = [w / total for w in weights] if total > 0 else None
    return int(generator.choice(choices, p=shares))


def up_to(taught: tuple[int, ...], largest: float) -> tuple[int, ...]:
    """The budgets of at most `largest` tokens; the smallest one if there are none."""
    return tuple(b for b in taught if b <= largest) or taught[:1]


def nearest(taught: tuple[int, ...], tokens: float) -> tuple[int, ...]:
    """The one budget nearest to a number of tokens; of two, the smaller."""
    return (min(taught, key=lambda b: (abs(b - tokens), b)),)


def chooser(exact: bool) -> Callable[[tuple[int, ...], float], tuple[int, ...]]:
    """How a schedule reads its number: the largest budget, or exactly the one nearest to it."""
    return nearest if exact else up_to


def number_in_meta(question: Question, name: str) -> float:
    """A number that the data set gives for a question; for a list, how many entries it has.

    A number may be written as text, as readers of data sets leave it.

    Raises:
        DataError: `Question.meta` has no such number.
    """
    value = question.meta.get(name)
    if isinstance(value, list):
        return float(len(value))
    number = _number(value)
    if number is not None:
        return number
    raise DataError(
        question.source or question.id,
        f"question {question.id} has no number {name!r} in its meta, which budget.sampler needs",
        "Name one of its fields in budget.sampler.params.field, or take another sampler",
        dict(question.meta),
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
