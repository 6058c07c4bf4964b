r"""Sets of real numbers: conversion of inequalities and set operators to intervals, comparison."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from bard_ray.verify.math.expression import Name, Operation
from bard_ray.verify.math.formula import Formula, same_value
from bard_ray.verify.math.structure import Interval, Region, Scalar, Set
from bard_ray.verify.math.tokens import UnreadableError

INFINITY = Formula(Name("infty", constant=True))
MINUS_INFINITY = Formula(Operation("neg", (INFINITY.tree,)))
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}

# Ends of an interval as floats (low, high), with the interval itself.
_Measured = tuple[float, float, Interval]


def from_chain(parts: Sequence[Formula], relations: Sequence[str]) -> Region:
    r"""Region of one variable between constants: `x>3`, `3<x`, `2<x\le5`, `x\ne2`.

    Raises:
        UnreadableError: anything else.
    """
    if len(parts) == 2:
        return _one_sided(parts[0], relations[0], parts[1])
    if len(parts) != 3 or not _same_direction(relations):
        raise UnreadableError
    low, middle, high = parts
    closed_low, closed_high = (relation.endswith("=") for relation in relations)
    if relations[0].startswith(">"):
        low, high, closed_low, closed_high = high, low, closed_high, closed_low
    return Region((Interval(low, high, closed_low, closed_high),), _variable(middle))


def _same_direction(relations: Sequence[str]) -> bool:
    return {*relations} <= {"<", "<="} or {*relations} <= {">", ">="}


def from_operators(regions: Sequence[Region | Set], operators: Sequence[str]) -> Region:
    r"""Unions of intervals and finite sets; `\mathbb{R}` without a finite set.

    Raises:
        UnreadableError: anything else.
    """
    if set(operators) == {"cup"}:
        return Region(tuple(i for region in regions for i in _intervals(region)))
    whole, *removed = regions
    if (
        operators != ["setminus"]
        or not isinstance(removed[0], Set)
        or not isinstance(whole, Region)
    ):
        raise UnreadableError
    if [(i.low.infinity, i.high.infinity) for i in whole.intervals] != [(-1, 1)]:
        raise UnreadableError
    return _line_without([_scalar(item) for item in removed[0].items])


def same_region(a: Region, b: Region) -> bool | None:
    """Whether two regions are the same set of numbers; None: undecided."""
    measured_a, measured_b = _measured(a), _measured(b)
    if measured_a is None or measured_b is None:
        return None
    if len(measured_a) != len(measured_b):
        return False
    findings = [_same_interval(x, y) for x, y in zip(measured_a, measured_b, strict=True)]
    if False in findings:
        return False
    return None if None in findings else True


def _same_interval(a: Interval, b: Interval) -> bool | None:
    if (a.closed_low, a.closed_high) != (b.closed_low, b.closed_high):
        return False
    ends = same_value(a.low, b.low), same_value(a.high, b.high)
    if False in ends:
        return False
    return None if None in ends else True


def _measured(region: Region) -> list[Interval] | None:
    """Intervals from left to right, joined if they touch; None if an end is not a number."""
    measured: list[_Measured] = []
    for interval in region.intervals:
        low, high = interval.low.real(), interval.high.real()
        if low is None or high is None or low > high:
            return None
        measured.append((low, high, interval))
    measured.sort(key=lambda item: (item[0], not item[2].closed_low))
    joined: list[_Measured] = []
    for low, high, interval in measured:
        if joined and _touch(joined[-1], low, interval):
            joined[-1] = _join(joined[-1], high, interval)
        else:
            joined.append((low, high, interval))
    return [interval for _, _, interval in joined]


def _touch(left: _Measured, low: float, interval: Interval) -> bool:
    _, end, before = left
    return low < end or (low == end and (before.closed_high or interval.closed_low))


def _join(left: _Measured, high: float, interval: Interval) -> _Measured:
    low, end, before = left
    if high < end:
        return left
    closed = interval.closed_high or (high == end and before.closed_high)
    joined = Interval(before.low, interval.high, before.closed_low, closed)
    return low, high, joined


def _one_sided(left: Formula, relation: str, right: Formula) -> Region:
    if not left.variables and right.variables:
        left, relation, right = right, _MIRRORED.get(relation, relation), left
    name = _variable(left)
    if right.variables:
        raise UnreadableError
    if relation == "!=":
        return Region(_line_without([right]).intervals, name)
    closed = relation.endswith("=")
    if relation.startswith(">"):
        return Region((Interval(right, INFINITY, closed, False),), name)
    return Region((Interval(MINUS_INFINITY, right, False, closed),), name)


def _variable(formula: Formula) -> str:
    if not isinstance(formula.tree, Name) or formula.tree.constant:
        raise UnreadableError
    return formula.tree.text


def _intervals(region: Region | Set) -> tuple[Interval, ...]:
    if isinstance(region, Region):
        return region.intervals
    points = [_scalar(item) for item in region.items]
    return tuple(Interval(point, point, True, True) for point in points)


def _line_without(points: Sequence[Formula]) -> Region:
    measured = [(point.real(), point) for point in points]
    if not measured or any(value is None for value, _ in measured):
        raise UnreadableError
    ordered = [point for _, point in sorted(measured, key=lambda item: item[0] or 0.0)]
    ends = [MINUS_INFINITY, *ordered, INFINITY]
    return Region(tuple(Interval(a, b, False, False) for a, b in pairwise(ends)))


def _scalar(shape: object) -> Formula:
    if not isinstance(shape, Scalar):
        raise UnreadableError
    return shape.formula
