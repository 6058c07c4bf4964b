r"""Exact comparison of short answers without sympy: equal, different, or undecided.

Only two plain rational numbers can be different. Everything else that is not equal character by
character after normalization is undecided here; `bard_ray.verify.math.judge` decides it.
"""

from __future__ import annotations

from bard_ray.verify.math.normalize import normalize
from bard_ray.verify.math.rational import plain_number, same_decimal


def compare_exact(answer: str, gold: str) -> bool | None:
    """Compare two answers exactly.

    Args:
        answer: what the policy wrote.
        gold: the reference.

    Returns:
        True if certainly equal, False if certainly different (two plain rational numbers), None if
        undecided. A decimal equals a number that it may be a rounding of (`same_decimal`).
        Source: ours.
    """
    return compare_normalized(normalize(answer), normalize(gold))


def compare_normalized(answer: str, gold: str) -> bool | None:
    """`compare_exact` of two texts that `normalize` returned."""
    if answer == gold or (";" in answer and answer.replace(";", ",") == gold):
        return True if answer else None
    a, g = plain_number(answer), plain_number(gold)
    if a is None or g is None:
        return None
    if a.value == g.value:
        return True
    if "," in answer or "," in gold:  # `200,100` may be two answers
        return None
    if (a.decimal or g.decimal) and not (a.whole or g.whole):
        return same_decimal(a.value, g.value)
    return False
