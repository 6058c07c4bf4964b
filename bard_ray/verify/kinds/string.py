"""Plain strings."""

from __future__ import annotations

from bard_ray.records import GradeItem, Verdict
from bard_ray.verify.extract import extract_string
from bard_ray.verify.math.normalize import normalize
from bard_ray.verify.verdicts import Rule, problem, verdict_of


def grade(item: GradeItem) -> Verdict:
    """A string in a box, or the whole text if there is no box.

    Case, surrounding markup and runs of white space are ignored.
    """
    found = extract_string(item.text)
    same = normalize(found.answer).casefold() == normalize(item.gold).casefold()
    return problem(found, item.gold) or verdict_of(same, found.answer, Rule.EXACT)
