"""What is taken for the answer, and what is refused."""

import time

import pytest

from bard_ray.verify.extract import (
    MAX_TEXT_CHARS,
    extract_boxed,
    extract_choice,
    extract_math,
    extract_string,
)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\begin{matrix}1\\{2}\end{matrix}}", r"\begin{matrix}1\\{2}\end{matrix}"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{5} and again \boxed{05}", "05"),
        (r"first \boxed{0.5}, so \boxed{\dfrac12}", r"\dfrac12"),
    ],
)
def test_the_last_box_is_the_answer(text: str, answer: str) -> None:
    found = extract_boxed(text)
    assert (found.answer, found.rule) == (answer, "boxed")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("the answer is 42", "no_answer"),
        (r"\boxed{}", "empty"),
        (r"\boxed{42", "unclosed_box"),
        (r"\boxed{42\}", "unclosed_box"),
        (r"\boxed{1}, no: \boxed{2", "unclosed_box"),
        (r"\boxed{1} or \boxed{2}", "hedge"),
        (r"\boxed{1,2,\boxed{3}}", "hedge"),
        (r"\boxed{x\ne\fbox{3}}", "hedge"),
        (r"\boxed{7\boxed 3}", "hedge"),
        (r"\boxed{1} \boxed{2} \boxed{1}", "hedge"),
    ],
)
def test_no_single_answer_is_no_answer(text: str, rule: str) -> None:
    found = extract_boxed(text)
    assert (found.answer, found.rule) == ("", rule)


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 50_000,
        r"\boxed{1}" * 50_000,
        "{" * 400_000,
        r"\boxed{" * 2000 + "1" + "}" * 2000,
        "answer" * 60_000,
        "answer" + " " * 400_000,
    ],
)
def test_degenerate_text_costs_milliseconds(text: str) -> None:
    start = time.process_time()
    extract_choice(text)
    assert time.process_time() - start < 0.5


def test_only_the_tail_of_a_long_text_counts() -> None:
    assert extract_boxed(r"\boxed{1}" + "x" * MAX_TEXT_CHARS + r"\boxed{2}").answer == "2"


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{B}",
        r"\boxed{b}",
        r"\boxed{\text{(B)}}",
        r"\boxed{\textbf{(B)}\ 42}",
        r"\boxed{B) 42}",
        "The answer is (B).",
        "A is tempting.\n**Answer:** B",
        "Answer: **B**\n",
        "B",
        "(B)",
        "B. forty-two",
    ],
)
def test_choice_letters(text: str) -> None:
    assert extract_choice(text).answer == "B"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Answer: A\nAnswer: B", "hedge"),
        (r"\boxed{A} \boxed{B}", "hedge"),
        (r"\boxed{42}", "no_answer"),
        ("A cat sat", "no_answer"),
        ("A. one\nB. two", "no_answer"),
    ],
)
def test_no_single_letter_is_no_choice(text: str, rule: str) -> None:
    found = extract_choice(text)
    assert (found.answer, found.rule) == ("", rule)


def test_a_string_needs_no_box() -> None:
    assert extract_string(" New York \n").answer == "New York"
    assert extract_string(r"It is \boxed{New York}").answer == "New York"
    assert extract_string("  ").rule == "no_answer"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The final answer is $\frac{1}{2}$.", r"\frac{1}{2}"),
        (r"**Final answer:** \(x+1\)", "x+1"),
        ("Answer: 42", "42"),
        ("Answer: 1,234.", "1,234"),
        ("answer: 5. I hope", "5"),
        ("Answer: $18.", "$18"),
        (r"Answer: \$1,250", r"\$1,250"),
        ("Answer: 3\nAnswer: 3.0", "3.0"),
        (r"Answer: 3, so \boxed{4}", "4"),
    ],
)
def test_a_stated_final_answer_counts_without_a_box(text: str, answer: str) -> None:
    assert extract_math(text).answer == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1} and \boxed{2}", r"1\text{ and }2"),
        (r"\(\boxed{1}\) and \(\boxed{-2}\).", r"1\text{ and }-2"),
        (r"$$\boxed{(2,2)} \quad \text{and} \quad \boxed{(6,2)}$$", r"(2,2)\text{ and }(6,2)"),
        (r"\boxed{1}, \boxed{2}, \boxed{3}", r"1\text{ and }2\text{ and }3"),
        (r"\boxed{1} papers and \boxed{2} bins", r"1\text{ and }2"),
        (r"$y_1=\boxed{x}$ and $y_2=\boxed{2x}$", r"x\text{ and }2x"),
        (r"\boxed{4}, that is, \boxed{\sqrt{16}}", r"\sqrt{16}"),
        (r"\boxed{\sqrt{4}}. Indeed \boxed{2}", "2"),
        (r"\boxed{1,2} **Final answer:** \boxed{1} and \boxed{2}", r"1\text{ and }2"),
        (r"It is not injective. \boxed{1} and \boxed{2}", r"1\text{ and }2"),
    ],
)
def test_joined_boxes_are_one_answer(text: str, answer: str) -> None:
    found = extract_math(text)
    assert (found.answer, found.rule) == (answer, "boxed")


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{1}\boxed{2}",
        r"\boxed{1} no no no no no \boxed{2}",
        r"\boxed{1}. And then \boxed{2}",
        r"\boxed{1} is what I would say, and then I think again: \boxed{2}",
        r"\boxed{1} and \boxed{2}. Finally \boxed{2}",
        "".join(rf"\boxed{{{n}}} or maybe rather this one here: " for n in range(40)),
        r"not \boxed{1} and \boxed{2}",
        r"It isn't \boxed{1}, \boxed{2} or \boxed{3}",
        r"\boxed{1} is wrong, \boxed{2}",
        r"$x\ne\boxed{1}$ and $x=\boxed{2}$",
    ],
)
def test_boxes_that_are_not_joined_have_to_agree(text: str) -> None:
    assert extract_math(text).rule == "hedge"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("so we get 42", "no_answer"),
        ("the answer is 42", "no_answer"),
        ("Answer: 42 apples", "no_answer"),
        ("Answer: 42 or 43", "no_answer"),
        ("Answer: $1$ ... Answer: $2$", "hedge"),
        ("Answer: $18 or $19", "no_answer"),
        (r"Answer: 42 \boxed{42", "unclosed_box"),
    ],
)
def test_nothing_less_explicit_counts(text: str, rule: str) -> None:
    found = extract_math(text)
    assert (found.answer, found.rule) == ("", rule)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1}</think>\boxed{2}", "2"),
        (r"\boxed{2}<think>\boxed{1}", "2"),
        (r"<think>\boxed{1}", ""),
        (r"\boxed{1}</think>", ""),
    ],
)
def test_thinking_inside_the_answer_does_not_count(text: str, answer: str) -> None:
    assert extract_boxed(text).answer == answer
