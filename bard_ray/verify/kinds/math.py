r"""Mathematical answers."""

from __future__ import annotations

import re

from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.extract import extract_math
from bard_ray.verify.math.chain import left_side, may_be_asked
from bard_ray.verify.math.complexity import is_too_complex
from bard_ray.verify.math.dropped import is_partly_dropped
from bard_ray.verify.math.finding import Finding
from bard_ray.verify.math.judge import judge
from bard_ray.verify.math.names import is_name
from bard_ray.verify.math.normalize import normalize
from bard_ray.verify.math.reader import read_gold
from bard_ray.verify.math.slow import ask_math_verify
from bard_ray.verify.math.split import chain_sides, list_parts
from bard_ray.verify.verdicts import Rule, problem, verdict, verdict_of

_LABEL = re.compile(r"\(?([A-H])\)(?=-?(?:[0-9$]|\\(?:frac|sqrt)))")
_QUANTIFIER = re.compile(r"\\(?:forall|exists)[^,:]*+[,:]")
_CURRENCY = re.compile(r"^([-+]?)\\\$|\\\$$")
_REFUSED = {
    Finding.HEDGE: Rule.HEDGE,
    Finding.AMBIGUOUS: Rule.AMBIGUOUS,
    Finding.CONTRADICTION: Rule.CONTRADICTION,
}


def grade(item: GradeItem) -> Verdict:
    r"""An expression, number, tuple, set, interval, equation or matrix in a box.

    An answer is correct if it has the same value as the gold answer, in any notation. Without a
    box, an explicit final-answer sentence counts. docs/grading.md lists the equivalences.

    Our own reader decides almost all answers; undecided ones that are not too complex go to
    math-verify.
    """
    found = extract_math(item.text)
    wrong = problem(found, item.gold)
    if wrong is not None:
        return wrong
    answer, gold = normalize(found.answer), normalize(item.gold)
    answer = _without_label(answer, gold)
    quantifier, gold = _quantifier(gold)
    claimed, answer = _quantifier(answer)
    if claimed not in ("", quantifier):
        return verdict(Outcome.UNPARSABLE, found.answer, Rule.AMBIGUOUS)
    judgment = judge(answer, gold)
    if judgment.finding in _REFUSED:
        return verdict(Outcome.UNPARSABLE, answer, _REFUSED[judgment.finding])
    if judgment.finding is Finding.UNDECIDED:
        return _without_reader(answer, gold)
    rule = Rule.EXACT if judgment.exact else Rule.NUMERIC
    return verdict_of(judgment.finding is Finding.EQUAL, answer, rule)


def _without_reader(answer: str, gold: str) -> Verdict:
    """Verdict on answers that our reader leaves undecided: textual rules, then math-verify."""
    sides = [part.text for part in chain_sides(answer)]
    for part in list_parts(answer):
        if refused := _refused_chain(part.text, gold):
            return verdict(Outcome.UNPARSABLE, answer, refused)
    if not _may_equal(answer, gold):
        return verdict(Outcome.WRONG, answer, Rule.NUMERIC)
    said = _asked(sides[-1] if len(chain_sides(gold)) == 1 else answer, gold)
    # A gold answer is not broken if only math-verify cannot read it.
    unread = said.outcome is Outcome.BROKEN and read_gold(gold)
    return verdict_of(False, answer, Rule.MATH_VERIFY) if unread else said


def _refused_chain(answer: str, gold: str) -> Rule | None:
    r"""Why math-verify, which takes the last side, may not be asked for an equation; None: it may.

    Not for several values, and not for one whose left side has no name: `\frac10=6`, `5\ne x=6`.
    """
    left, *others = (part.text for part in chain_sides(answer))
    if len(set(others)) > 1:
        return Rule.CONTRADICTION
    if not others or any(left == part.text for part in chain_sides(gold)):
        return None
    return None if may_be_asked(left_side(left)) else Rule.AMBIGUOUS


def _may_equal(answer: str, gold: str) -> bool:
    """Whether an answer may equal a gold answer that is an equation, or a list of equations.

    `1` cannot equal `2x+z=1`, nor can values of other names. math-verify would compare a list of
    equations as truth values.
    """
    if "=" not in gold:
        return True
    answers, golds = ([part.text for part in list_parts(text)] for text in (answer, gold))
    return all(any(_may_equal_part(a, g) for a in answers) for g in golds)


def _may_equal_part(answer: str, gold: str) -> bool:
    sides, golds = ([part.text for part in chain_sides(text)] for text in (answer, gold))
    if len(golds) > 1 and len(sides) == 1:
        return is_name(golds[0])
    return judge(sides[-1], golds[-1]).finding is not Finding.DIFFERENT


def _asked(answer: str, gold: str) -> Verdict:
    """The verdict of math-verify, called with its own notation."""
    answer, gold = (_CURRENCY.sub(r"\1", text).replace(";", ",") for text in (answer, gold))
    if is_too_complex(answer, gold):
        return verdict(Outcome.UNPARSABLE, answer, Rule.TOO_COMPLEX)
    if is_partly_dropped(answer, gold):  # `5\text{ (or 6)}`
        return verdict(Outcome.UNPARSABLE, answer, Rule.AMBIGUOUS)
    return ask_math_verify(answer, gold)


def _without_label(answer: str, gold: str) -> str:
    """`B) 42` is 42, or B where the gold is a letter."""
    match = _LABEL.match(answer)
    if match is None or _LABEL.match(gold):
        return answer
    return match[1] if len(gold) == 1 and gold.isalpha() else answer[match.end() :]


def _quantifier(text: str) -> tuple[str, str]:
    r"""Split `\forall x>0, f(x)=0` into the quantifier and the rest."""
    match = _QUANTIFIER.match(text)
    return (match.group(), text[match.end() :]) if match else ("", text)
