"""The verdicts a user sees, one row a case; among them wrong verdicts of math-verify 0.9 that are
settled here.
"""

import pytest

from bard_ray.records import AnswerKind, GradeItem, Outcome
from bard_ray.verify.grade import grade
from bard_ray.verify.verdicts import MAX_ANSWER_CHARS

CORRECT, WRONG, UNPARSABLE, BROKEN = (
    Outcome.CORRECT,
    Outcome.WRONG,
    Outcome.UNPARSABLE,
    Outcome.BROKEN,
)


@pytest.mark.parametrize(
    ("kind", "answer", "gold", "outcome", "rule"),
    [
        # exact
        ("integer", "42", "42", CORRECT, "exact"),
        ("integer", "033", "33", CORRECT, "exact"),
        ("integer", "41", "42", WRONG, "exact"),
        ("integer", "1,024", "1024", CORRECT, "exact"),
        ("math", r"\frac{2}{4}", "0.5", CORRECT, "exact"),
        # our own reader
        ("math", "1+x", "x+1", CORRECT, "numeric"),
        ("math", "x+2", "x+1", WRONG, "numeric"),
        ("math", r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", CORRECT, "numeric"),
        ("math", "0.333333", r"\frac13", CORRECT, "exact"),
        ("math", r"\{2, 1\}", r"\{1,2\}", CORRECT, "numeric"),
        ("math", "y=2x", "y=2x", CORRECT, "exact"),
        ("math", "y=3x", "y=2x", WRONG, "numeric"),
        ("math", "(1,2]", "(1,2)", WRONG, "numeric"),
        ("integer", "2^5", "32", CORRECT, "numeric"),
        ("integer", "m+n=17", "17", CORRECT, "numeric"),
        ("integer", "$1,250", r"\$1250", CORRECT, "numeric"),
        ("math", "34", "x^2+y^2=34", WRONG, "numeric"),
        ("math", "1", r"2\overline{z}+z=1", WRONG, "numeric"),
        ("math", "2+3=5", "5", CORRECT, "numeric"),
        ("integer", "?", "32", UNPARSABLE, "too_complex"),
        # left to math-verify
        ("math", "1/2x", r"\frac{1}{2x}", CORRECT, "math_verify"),
        ("math", r"\log 100", "2", CORRECT, "numeric"),
        ("math", r"\log 100", "3", WRONG, "math_verify"),
        ("math", r"\frac", "5", UNPARSABLE, "math_verify"),
        # refused
        ("math", "5 or 6", "5", UNPARSABLE, "hedge"),
        ("math", "3:4", r"\frac34", UNPARSABLE, "ambiguous"),
        ("math", "9^{9^{9}}", "5", UNPARSABLE, "too_complex"),
        # wrong verdicts of math-verify, settled
        ("math", "0.0000001", "0.0000002", WRONG, "exact"),
        ("math", "17.", "17", CORRECT, "exact"),
        ("math", "2 1/2", "2.5", CORRECT, "exact"),
        ("math", "3.5e3", "3500", CORRECT, "exact"),
        ("math", "**73**", "73", CORRECT, "exact"),
        ("math", "3=5", "5", UNPARSABLE, "contradiction"),
        ("math", "x=3=5", "5", UNPARSABLE, "contradiction"),
        ("math", "x=3=5", "x=5", UNPARSABLE, "contradiction"),
        ("math", r"\overline{x}=3=5", "5", UNPARSABLE, "contradiction"),
        # nothing to compare
        ("math", "", "5", UNPARSABLE, "empty"),
        ("math", "1+" * MAX_ANSWER_CHARS + "1", "5", UNPARSABLE, "too_long"),
        # faults of the data
        ("math", "5", "", BROKEN, "gold_unparsable"),
        ("math", "5", r"\frac{", BROKEN, "gold_unparsable"),
        ("integer", "5", "5.5", BROKEN, "gold_unparsable"),
        ("choice", "B", "42", BROKEN, "gold_unparsable"),
        ("chess", "e4", "e4", BROKEN, "unknown_kind"),
        # choice and string
        ("choice", "b", "B", CORRECT, "exact"),
        ("choice", "B) 42", "(B)", CORRECT, "exact"),
        ("choice", "A", "B", WRONG, "exact"),
        ("choice", "42", "B", UNPARSABLE, "no_answer"),
        ("string", "new  york", r"\text{New York}", CORRECT, "exact"),
        ("string", "cba", "abc", WRONG, "exact"),
    ],
)
def test_boxed_answers(
    kind: AnswerKind, answer: str, gold: str, outcome: Outcome, rule: str
) -> None:
    verdict = grade(GradeItem(rf"So the answer is \boxed{{{answer}}}.", gold, kind))
    assert (verdict.outcome, verdict.rule) == (outcome, rule)


@pytest.mark.parametrize(
    ("kind", "text", "gold", "outcome", "rule"),
    [
        ("math", "the answer is 5", "5", UNPARSABLE, "no_answer"),
        ("math", r"The final answer is $\frac{1}{2}$.", "0.5", CORRECT, "exact"),
        ("integer", "Answer: 42", "42", CORRECT, "exact"),
        ("integer", "Answer: 42\nAnswer: 43", "42", UNPARSABLE, "hedge"),
        ("math", r"<think>\boxed{5}", "5", UNPARSABLE, "no_answer"),
        ("math", r"\boxed{5}</think> no idea", "5", UNPARSABLE, "no_answer"),
        ("math", r"\boxed{4}</think> \boxed{5}", "5", CORRECT, "exact"),
        ("math", r"\boxed{5", "5", UNPARSABLE, "unclosed_box"),
        ("math", r"\boxed{3} or \boxed{5}", "5", UNPARSABLE, "hedge"),
        ("math", r"\boxed{3} and \boxed{5}", "5", UNPARSABLE, "hedge"),
        ("math", r"\boxed{3} and \boxed{5}", "3,5", CORRECT, "numeric"),
        ("choice", r"\boxed{A} and \boxed{B}", "B", UNPARSABLE, "hedge"),
        ("math", r"\fbox{5}", "5", CORRECT, "exact"),
        ("choice", "The answer is (C).", "C", CORRECT, "exact"),
        ("string", "Paris", "paris", CORRECT, "exact"),
    ],
)
def test_unboxed_text(kind: AnswerKind, text: str, gold: str, outcome: Outcome, rule: str) -> None:
    verdict = grade(GradeItem(text, gold, kind))
    assert (verdict.outcome, verdict.rule) == (outcome, rule)


def test_model_text_is_not_run(tmp_path) -> None:
    target = tmp_path / "made"
    for code in (f"open('{target}','w')", f"__import__('os').system('touch {target}')"):
        assert grade(GradeItem(rf"\boxed{{{code}}}", "5", "math")).outcome is not CORRECT
    assert not target.exists()


def test_the_verdict_shows_a_bounded_answer() -> None:
    verdict = grade(GradeItem(r"\boxed{" + "9" * 10_000 + "}", "5", "math"))
    assert verdict.outcome is UNPARSABLE
    assert 0 < len(verdict.extracted) <= 200
