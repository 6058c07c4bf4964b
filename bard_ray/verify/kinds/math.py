r"""Mathematical answers."""

from __future__ import annotations

import re

from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.extract import extract_math
from bard_ray.verify.math.compare import equation_sides, is_contradiction, normalize
from bard_ray.verify.math.complexity import is_too_complex
from bard_ray.verify.math.judge import Finding, judge
from bard_ray.verify.math.reader import real_value
from bard_ray.verify.math.slow import ask_math_verify
from bard_ray.verify.verdicts import Rule, problem, verdict, verdict_of

_LABEL = re.compile(r"\(?([A-H])\)(?=-?(?:[0-9$]|\\(?:frac|sqrt)))")
_APPROXIMATELY = re.compile(r"\\approx|\\simeq|≈")
_CLOSE = 0.01  # what may stand on the two sides of it, relative
_TEXT = re.compile(r"\\(?:text\w*+|mbox)\{([^{}]*+)\}")
_QUANTIFIER = re.compile(r"\\(?:forall|exists)[^,:]*+[,:]")
_REFUSED = {Finding.HEDGE: Rule.HEDGE, Finding.AMBIGUOUS: Rule.AMBIGUOUS}


def grade(item: GradeItem) -> Verdict:
    r"""An expression, number, tuple, set, interval, equation or matrix in a box.

    Correct is what has the same value as the gold answer, however it is written. Without a box an
    explicit final-answer sentence counts. docs/grading.md says what equals what.

    Our own reader decides almost all; what it leaves undecided and is not too complex goes to
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
    answer = _without_approximation(answer, gold)
    sides = equation_sides(answer) if len(equation_sides(gold)) == 1 else [answer]
    if is_contradiction(sides):
        return verdict(Outcome.UNPARSABLE, answer, Rule.CONTRADICTION)
    return _compared(sides[-1], gold, answer)


def _compared(answer: str, gold: str, shown: str) -> Verdict:
    judgment = judge(answer, gold)
    if judgment.finding in _REFUSED:
        return verdict(Outcome.UNPARSABLE, shown, _REFUSED[judgment.finding])
    if judgment.finding is not Finding.UNDECIDED:
        rule = Rule.EXACT if judgment.exact else Rule.NUMERIC
        return verdict_of(judgment.finding is Finding.EQUAL, shown, rule)
    if is_too_complex(answer, gold):
        return verdict(Outcome.UNPARSABLE, shown, Rule.TOO_COMPLEX)
    # math-verify drops text, and with it `\text{ (or 6)}`.
    if not set(_TEXT.findall(answer)) <= set(_TEXT.findall(gold)):
        return verdict(Outcome.UNPARSABLE, shown, Rule.AMBIGUOUS)
    return ask_math_verify(answer, gold)


def _without_label(answer: str, gold: str) -> str:
    """`B) 42` is 42, or B where the gold is a letter."""
    match = _LABEL.match(answer)
    if match is None or _LABEL.match(gold):
        return answer
    return match[1] if len(gold) == 1 and gold.isalpha() else answer[match.end() :]


def _without_approximation(answer: str, gold: str) -> str:
    r"""`22/7 \approx 3.14` is 22/7; where the two sides do not fit, both stay, as an equality."""
    parts = _APPROXIMATELY.split(answer)
    if len(parts) != 2 or _APPROXIMATELY.search(gold):
        return answer
    exact, rounded = map(real_value, equation_sides(parts[0])[-1:] + parts[1:])
    if exact is None or rounded is None:
        return answer
    close = abs(exact - rounded) <= _CLOSE * abs(exact)
    return parts[0] if close else "=".join(parts)


def _quantifier(text: str) -> tuple[str, str]:
    r"""`\forall x>0, f(x)=0` as the quantifier and the rest."""
    match = _QUANTIFIER.match(text)
    return (match.group(), text[match.end() :]) if match else ("", text)
