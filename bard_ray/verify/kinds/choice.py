"""Multiple choice, as in GPQA."""

from __future__ import annotations

from bard_ray.records import GradeItem, Verdict
from bard_ray.verify.extract import choice_letter, extract_choice
from bard_ray.verify.verdicts import Rule, broken_gold, problem, verdict_of


def grade(item: GradeItem) -> Verdict:
    """A letter, upper or lower case: in a box, in "the answer is (B)", or alone.

    The text of an option without its letter does not count, because a text that quotes every option
    would contain the correct one.
    """
    gold = choice_letter(item.gold)
    if not gold:
        return broken_gold(item.gold)
    found = extract_choice(item.text)
    return problem(found, item.gold) or verdict_of(found.answer == gold, found.answer, Rule.EXACT)
