"""Grading with retries: answers with a broken verdict are graded again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bard_ray.records import Failure, FailureKind, GradeItem, Outcome, Verdict
from bard_ray.roles import Verifier

# Failure of a group that has a broken verdict after all retries.
UNGRADED = Failure(FailureKind.UNGRADED, "an answer could not be graded")
REGRADES = 2  # retries for an answer with a broken verdict


async def grade_with_retries(
    verifier: Verifier, items: Sequence[GradeItem]
) -> tuple[list[Verdict], Counter[Outcome]]:
    """Grade items, and grade those with a broken verdict again.

    An infrastructure failure is retried, never turned into a wrong answer.

    Args:
        verifier: grades the items.
        items: N answers.

    Returns:
        N verdicts in order, broken ones only where `REGRADES` retries failed too; and the number of
        verdicts of each outcome over all attempts.
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
