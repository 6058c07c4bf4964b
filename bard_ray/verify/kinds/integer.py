"""Integers, as in AIME."""

from __future__ import annotations

from bard_ray.records import GradeItem, Verdict
from bard_ray.verify.kinds import math
from bard_ray.verify.math.normalize import normalize
from bard_ray.verify.math.rational import plain_number
from bard_ray.verify.verdicts import broken_gold


def grade(item: GradeItem) -> Verdict:
    """An integer in a box; graded like `math`, but the gold answer must be an integer.

    Leading zeros and thousands separators are ignored.
    """
    gold = plain_number(normalize(item.gold).removeprefix(r"\$"))
    if gold is None or not gold.whole:
        return broken_gold(item.gold)
    return math.grade(item)
