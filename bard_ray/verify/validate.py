r"""Check the gold answers of a data set: each must grade correct as an answer to itself.

These functions are pure; the caller grades with its own pool:

    items = gold_items(questions)
    problems = gold_problems(questions, await verifier.grade(items))
    require_gradable(source, len(questions), problems)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bard_ray.errors import DataError
from bard_ray.records import GradeItem, Outcome, Question, Verdict

SHOWN_PROBLEMS = 5
MAX_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class GoldProblem:
    """A gold answer that does not grade correct as an answer to itself."""

    id: str
    gold: str
    verdict: Verdict

    def __str__(self) -> str:
        shown = self.gold[:MAX_SHOWN_CHARS]
        why = f"{self.verdict.outcome} ({self.verdict.rule})"
        return f"{self.id[:MAX_SHOWN_CHARS]}: {shown!r} is {why}"


def gold_items(questions: Sequence[Question]) -> list[GradeItem]:
    """One item per question: its gold answer in a box, to be graded against itself."""
    return [GradeItem(rf"\boxed{{{q.answer}}}", q.answer, q.kind) for q in questions]


def gold_problems(questions: Sequence[Question], verdicts: Sequence[Verdict]) -> list[GoldProblem]:
    """The questions whose gold answer cannot be graded.

    Args:
        questions: N questions.
        verdicts: N verdicts on `gold_items(questions)`, in order.

    Returns:
        Problems in the order of the questions. Source: ours.

    Raises:
        ValueError: the arguments differ in length.
    """
    return [
        GoldProblem(question.id, question.answer, verdict)
        for question, verdict in zip(questions, verdicts, strict=True)
        if verdict.outcome is not Outcome.CORRECT
    ]


def validate_golds(
    questions: Sequence[Question], grade_batch: Callable[[Sequence[GradeItem]], Sequence[Verdict]]
) -> list[GoldProblem]:
    """`gold_problems` for a grader that is an ordinary function."""
    return gold_problems(questions, grade_batch(gold_items(questions)))


def require_gradable(source: str, total: int, problems: Sequence[GoldProblem]) -> None:
    """Check that all gold answers of a data set can be graded.

    Args:
        source: the data set, for the message.
        total: number of its questions.
        problems: result of `gold_problems`.

    Raises:
        DataError: there are problems; it gives their number and lists the first ones.
    """
    if not problems:
        return
    listed = [str(problem) for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        listed.append(f"and {len(problems) - SHOWN_PROBLEMS} more")
    raise DataError(
        source,
        f"{len(problems)} of {total} gold answers do not grade correct: {'; '.join(listed)}",
        "Fix or remove these rows, or give them another kind (see docs/grading.md)",
    )
