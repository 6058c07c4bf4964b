r"""Grade one answer: extract it, compare it exactly, ask math-verify where that does not decide.

Model text is parsed, never evaluated as code. Parsing may still take for ever or ask for terabytes,
and nothing in here stops it: call `grade` through `bard_ray.verify.process` for any text you have
not written yourself.

A new kind of answer is one function in `GRADERS`. Every verdict names the rule that decided, so
that a surprising reward can be traced: the rules are the constants of `Rule` and those of
`bard_ray.verify.extract.Extraction`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from functools import cache

from bard_ray.records import AnswerKind, GradeItem, Outcome, Verdict
from bard_ray.verify.compare import (
    compare_exact,
    equation_sides,
    is_contradiction,
    normalise,
    plain_number,
)
from bard_ray.verify.extract import (
    Extraction,
    choice_letter,
    extract_boxed,
    extract_choice,
    extract_string,
)

MAX_ANSWER_CHARS = 512  # the longest gold answer of MATH-500 has 159
MAX_SHOWN_CHARS = 200


class Rule(StrEnum):
    """Which rule decided a verdict, where extraction had found an answer."""

    EXACT = "exact"
    MATH_VERIFY = "math_verify"
    TOO_LONG = "too_long"
    CONTRADICTION = "contradiction"  # `3=5`: several values in one answer
    GOLD_UNPARSABLE = "gold_unparsable"  # a fault of the data, so `Outcome.BROKEN`


def grade(item: GradeItem) -> Verdict:
    """Grade one answer.

    Args:
        item: the text after the closing think tag, the gold answer, and its kind.

    Returns:
        CORRECT, WRONG or UNPARSABLE; BROKEN where the gold answer itself cannot be read.

    Raises:
        KeyError: no grader for this kind.
    """
    return GRADERS[item.kind](item)


def grade_math(item: GradeItem) -> Verdict:
    """A mathematical answer in a box."""
    found = extract_boxed(item.text)
    problem = _problem(found, item.gold)
    if problem is not None:
        return problem
    answer, gold = normalise(found.answer), normalise(item.gold)
    sides = equation_sides(answer) if len(equation_sides(gold)) == 1 else [answer]
    if is_contradiction(sides):
        return _verdict(Outcome.UNPARSABLE, answer, Rule.CONTRADICTION)
    exact = compare_exact(sides[-1], gold)
    return (
        _verdict_of(exact, answer, Rule.EXACT) if exact is not None else _math_verify(answer, gold)
    )


def grade_integer(item: GradeItem) -> Verdict:
    """An integer in a box (AIME); leading zeros and thousands separators do not count."""
    gold = plain_number(normalise(item.gold))
    if gold is None or gold.value.denominator != 1:
        return _verdict(Outcome.BROKEN, item.gold, Rule.GOLD_UNPARSABLE)
    return grade_math(item)


def grade_choice(item: GradeItem) -> Verdict:
    """A letter, upper or lower case."""
    gold = choice_letter(item.gold)
    if not gold:
        return _verdict(Outcome.BROKEN, item.gold, Rule.GOLD_UNPARSABLE)
    found = extract_choice(item.text)
    return _problem(found, item.gold) or _verdict_of(found.answer == gold, found.answer, Rule.EXACT)


def grade_string(item: GradeItem) -> Verdict:
    """A plain string.

    Upper and lower case, surrounding markup and runs of white space do not count.
    """
    found = extract_string(item.text)
    same = normalise(found.answer).casefold() == normalise(item.gold).casefold()
    return _problem(found, item.gold) or _verdict_of(same, found.answer, Rule.EXACT)


GRADERS: dict[AnswerKind, Callable[[GradeItem], Verdict]] = {
    "math": grade_math,
    "integer": grade_integer,
    "choice": grade_choice,
    "string": grade_string,
}


def _problem(found: Extraction, gold: str) -> Verdict | None:
    """Why there is nothing to compare, or None."""
    if not gold.strip():
        return _verdict(Outcome.BROKEN, gold, Rule.GOLD_UNPARSABLE)
    if not found.answer:
        return _verdict(Outcome.UNPARSABLE, "", found.rule)
    if len(found.answer) > max(MAX_ANSWER_CHARS, 2 * len(gold)):
        return _verdict(Outcome.UNPARSABLE, found.answer, Rule.TOO_LONG)
    return None


def _verdict(outcome: Outcome, extracted: str, rule: str) -> Verdict:
    return Verdict(outcome, extracted[:MAX_SHOWN_CHARS], str(rule))


def _verdict_of(correct: bool, extracted: str, rule: str) -> Verdict:
    return _verdict(Outcome.CORRECT if correct else Outcome.WRONG, extracted, rule)


def _math_verify(answer: str, gold: str) -> Verdict:
    from math_verify import verify

    golds = _parse(gold)
    if not golds:
        return _verdict(Outcome.BROKEN, gold, Rule.GOLD_UNPARSABLE)
    answers = _parse(answer)
    if not answers:
        return _verdict(Outcome.UNPARSABLE, answer, Rule.MATH_VERIFY)
    return _verdict_of(verify(golds, answers, timeout_seconds=None), answer, Rule.MATH_VERIFY)


def _parse(expression: str) -> list[object]:
    # Wrapped in a box because math-verify reads bare LaTeX as something else; its own time limit
    # needs SIGALRM on the main thread and is switched off, since the process around us is
    # killed from outside.
    from math_verify import LatexExtractionConfig, parse

    config = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    _silence_math_verify()
    boxed = rf"\boxed{{{expression}}}"
    return list(parse(boxed, [config], fallback_mode="no_fallback", parsing_timeout=None))


@cache
def _silence_math_verify() -> None:
    # It warns once for each process that its time limits are off; that is on purpose here.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
