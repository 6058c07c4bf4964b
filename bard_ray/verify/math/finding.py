"""Results of comparing two shapes."""

from __future__ import annotations

from enum import Enum, auto


class Finding(Enum):
    """The result of a comparison."""

    EQUAL = auto()
    DIFFERENT = auto()
    HEDGE = auto()  # several answers to a question with one answer
    AMBIGUOUS = auto()
    CONTRADICTION = auto()  # `3=5`: several values in one answer
    UNDECIDED = auto()


EQUAL, DIFFERENT, HEDGE, AMBIGUOUS, CONTRADICTION, UNDECIDED = Finding


def finding_of(same: bool | None) -> Finding:
    """The finding for a comparison of values; None is undecided."""
    if same is None:
        return UNDECIDED
    return EQUAL if same else DIFFERENT


def all_equal(findings: set[Finding]) -> Finding:
    """Equal if all are equal; different if one is certainly different."""
    if findings <= {EQUAL}:
        return EQUAL
    return UNDECIDED if findings <= {EQUAL, UNDECIDED} else DIFFERENT


def any_equal(findings: set[Finding]) -> Finding:
    """Equal if one is equal; different if none can be equal."""
    return next((f for f in (EQUAL, UNDECIDED) if f in findings), DIFFERENT)
