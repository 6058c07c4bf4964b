"""Verdicts: the rules that may decide one, and the checks shared by all kinds."""

from __future__ import annotations

from enum import StrEnum

from bard_ray.records import Outcome, Verdict
from bard_ray.verify.extract import Extraction

MAX_ANSWER_CHARS = 512  # the longest gold answer of MATH-500 has 159
MAX_SHOWN_CHARS = 200


class Rule(StrEnum):
    """The rule that decided a verdict on an extracted answer."""

    EXACT = "exact"  # the same text after normalization, or two plain rational numbers
    NUMERIC = "numeric"  # our own reader and evaluator
    MATH_VERIFY = "math_verify"
    TOO_LONG = "too_long"
    TOO_COMPLEX = "too_complex"  # rejected before math-verify
    CONTRADICTION = "contradiction"  # `3=5`: several values in one answer
    HEDGE = "hedge"  # `5 or 6` for a question with one answer
    AMBIGUOUS = "ambiguous"  # `3:4` for a gold answer that is a number
    GOLD_UNPARSABLE = "gold_unparsable"  # a fault of the data, so `Outcome.BROKEN`
    UNKNOWN_KIND = "unknown_kind"  # likewise


def verdict(outcome: Outcome, extracted: str, rule: str) -> Verdict:
    """A verdict that shows at most `MAX_SHOWN_CHARS` of the answer."""
    return Verdict(outcome, extracted[:MAX_SHOWN_CHARS], str(rule))


def verdict_of(correct: bool, extracted: str, rule: str) -> Verdict:
    """CORRECT or WRONG."""
    return verdict(Outcome.CORRECT if correct else Outcome.WRONG, extracted, rule)


def broken_gold(gold: str) -> Verdict:
    """The gold answer itself cannot be read."""
    return verdict(Outcome.BROKEN, gold, Rule.GOLD_UNPARSABLE)


def problem(found: Extraction, gold: str) -> Verdict | None:
    """The verdict if there is nothing to compare, else None."""
    if not gold.strip():
        return broken_gold(gold)
    if not found.answer:
        return verdict(Outcome.UNPARSABLE, "", found.rule)
    if len(found.answer) > max(MAX_ANSWER_CHARS, 2 * len(gold)):
        return verdict(Outcome.UNPARSABLE, found.answer, Rule.TOO_LONG)
    return None
