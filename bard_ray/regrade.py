"""Grading for callers that cannot use a broken verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bard_ray.records import Failure, FailureKind, GradeItem, Outcome, Verdict
from bard_ray.roles import Verifier

# What a group fails with where that did not help.
UNGRADED = Failure(FailureKind.UNGRADED, "an answer could not be graded")
REGRADES = 2  # how often an answer that the machinery failed to grade is graded again


async def grade_with_retries(
    verifier: Verifier, items: Sequence[GradeItem]
) -> tuple[list[Verdict], Counter[Outcome]]:
    """Grade items, and again those that came back broken.

    Trouble of the machinery is tried again, never turned into a wrong answer.

    Args:
        verifier: who grades.
        items: N answers.

    Returns:
        N verdicts in order, broken ones only where `REGRADES` more attempts did not help; and how
        often each outcome was given, attempts that came to nothing included.
    """
    verdicts = await verifier.grade(items) if items else []
    given = Counter(verdict.outcome for verdict in verdicts)
    for _ in range(REGRADES):
        broken = [i for i, v in enumerate(verdicts) if v.outcome is Outcome.BROKEN]
        if not broken:
            break
        again = await verifier.grade([items[i] for i in broken])
        given.update(verdict.outcome for verdict in again)
        for i, verdict in zip(broken, again, strict=True):
            verdicts[i] = verdict
    return verdicts, given
