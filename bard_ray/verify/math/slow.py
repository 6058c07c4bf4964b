"""The slow path: math-verify, for answers that our own reader leaves undecided.

It parses text and never evaluates it as code, but its time is unbounded: call it only in a process
that can be killed (`bard_ray.verify.process.grading`).
"""

from __future__ import annotations

import logging
from functools import cache

from bard_ray.records import Outcome, Verdict
from bard_ray.verify.verdicts import Rule, broken_gold, verdict, verdict_of


def ask_math_verify(answer: str, gold: str) -> Verdict:
    """Verdict of math-verify on two normalized answers."""
    from math_verify import verify

    golds = _parse(gold)
    if not golds:
        return broken_gold(gold)
    answers = _parse(answer)
    if not answers:
        return verdict(Outcome.UNPARSABLE, answer, Rule.MATH_VERIFY)
    # Sets against relations: an inequality may answer a question whose gold is an interval.
    same = verify(golds, answers, timeout_seconds=None, allow_set_relation_comp=True)
    return verdict_of(same, answer, Rule.MATH_VERIFY)


def _parse(expression: str) -> list[object]:
    # Wrapped in a box because math-verify reads bare LaTeX differently. Its own time limit needs
    # SIGALRM on the main thread and is disabled, because this process is killed from outside.
    from math_verify import LatexExtractionConfig, parse

    config = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    _silence_math_verify()
    boxed = rf"\boxed{{{expression}}}"
    return list(parse(boxed, [config], fallback_mode="no_fallback", parsing_timeout=None))


@cache
def _silence_math_verify() -> None:
    # It warns once per process that its time limits are disabled, which is intended here.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
