"""What a comparison of two shapes found."""

from __future__ import annotations

from enum import Enum, auto


class Finding(Enum):
    """What a comparison found."""

    EQUAL = auto()
    DIFFERENT = auto()
    HEDGE = auto()  # several answers where one was asked for
    AMBIGUOUS = auto()
    CONTRADICTION = auto()  # `3=5`: several values in one answer
    UNDECIDED = auto()


EQUAL, DIFFERENT, HEDGE, AMBIGUOUS, CONTRADICTION, UNDECIDED = Finding


def finding_of(same: bool | None) -> Finding:
    """The finding for a comparison of values, None where that was undecided."""
    if same is None:
        return UNDECIDED
    return EQUAL if same else DIFFERENT


def all_equal(findings: set[Finding]) -> Finding:
    """Equal where all are; different where one is not, and cannot be."""
    if findings <= {EQUAL}:
        return EQUAL
    return UNDECIDED if findings <= {EQUAL, UNDECIDED} else DIFFERENT


def any_equal(findings: set[Finding]) -> Finding:
    """Equal where one is; different where none can be."""
    return next((f for f in (EQUAL, UNDECIDED) if f in findings), DIFFERENT)
