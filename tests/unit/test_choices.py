"""Lettered options: seeded, uniform, and never giving the answer away."""

from collections import Counter

import pytest

from bard_ray.data.choices import choice_question
from bard_ray.errors import DataError
from bard_ray.records import GradeItem, Outcome
from bard_ray.verify.grade import grade

WRONG = ["two", "three", "four"]


def test_the_order_follows_from_seed_and_id_alone() -> None:
    first = choice_question("q1", "Which?", "one", WRONG, seed=3)
    assert choice_question("q1", "Which?", "one", WRONG, seed=3) == first
    orders = {
        choice_question(f"q{n}", "Which?", "one", WRONG, seed).messages[0].content
        for n in range(5)
        for seed in range(5)
    }
    assert len(orders) > 10


def test_the_gold_letter_names_the_correct_option() -> None:
    question = choice_question("q7", " Which? ", " one\n", WRONG, seed=0)
    lines = question.messages[0].content.splitlines()
    assert lines[0] == "Which?"
    assert f"{question.answer}) one" in lines
    assert sorted(line[0] for line in lines[2:6]) == ["A", "B", "C", "D"]
    item = GradeItem(rf"\boxed{{{question.answer}}}", question.answer, question.kind)
    assert grade(item).outcome is Outcome.CORRECT


def test_every_letter_is_as_likely() -> None:
    letters = Counter(
        choice_question(f"item-{n}", "Which?", "one", WRONG, seed=1).answer for n in range(2000)
    )
    # 500 each; the standard deviation is 19.4.
    assert set(letters) == set("ABCD")
    assert all(420 < count < 580 for count in letters.values())


@pytest.mark.parametrize(
    ("correct", "incorrect", "problem"),
    [
        ("one", [], "has 1 options"),
        ("one", ["two", " "], "blank"),
        ("one", ["two", " one "], "twice"),
    ],
)
def test_options_that_cannot_be_told_apart(correct, incorrect, problem) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        choice_question("q9", "Which?", correct, incorrect, seed=0)
    assert "q9" in str(caught.value)
