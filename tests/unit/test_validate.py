"""Gold answers that could never be answered are found before anything is spent on them."""

from collections.abc import Sequence

import pytest

from bard_ray.errors import DataError
from bard_ray.records import GradeItem, Message, Question, Verdict
from bard_ray.verify.grade import grade
from bard_ray.verify.validate import require_gradable, validate_golds


def question(number: int, answer: str, kind: str = "math") -> Question:
    return Question(f"q{number}", (Message("user", "?"),), answer, kind)


def grade_batch(items: Sequence[GradeItem]) -> list[Verdict]:
    return [grade(item) for item in items]


GOOD = [
    question(1, "42", "integer"),
    question(2, r"\frac{\pi}{2}"),
    question(3, r"\text{no solution}"),
    question(4, "(-\\infty, 2) \\cup (3, \\infty)"),
    question(5, "$x^2+1$"),
    question(6, "12 \\text{ cm}"),
    question(7, "B", "choice"),
    question(8, "New York", "string"),
    question(9, r"\sum_{k=1}^{n} \frac{1}{k}"),
]


def test_good_golds_pass() -> None:
    assert validate_golds(GOOD, grade_batch) == []
    require_gradable("set.jsonl", len(GOOD), [])


def test_golds_that_do_not_grade_themselves_are_listed() -> None:
    bad = [
        question(10, "5.5", "integer"),
        question(11, "42", "choice"),
        question(12, r"\frac{1}{2"),
        *(question(20 + n, "", "string") for n in range(5)),
    ]
    problems = validate_golds([*GOOD, *bad], grade_batch)
    assert [problem.id for problem in problems] == [q.id for q in bad]
    with pytest.raises(DataError) as caught:
        require_gradable("set.jsonl", 17, problems)
    message = str(caught.value)
    assert "set.jsonl: 8 of 17 gold answers" in message
    assert "q10: '5.5' is broken (gold_unparsable)" in message
    assert "q24" not in message
    assert "and 3 more" in message
