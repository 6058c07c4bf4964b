r"""Exact comparison of short answers, without sympy: says equal, different, or undecided.

"Different" is only said of two plain rational numbers. Everything else that is not equal character
by character after normalization is undecided here, and goes on to `bard_ray.verify.math.judge`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_NUMBER_CHARS = 1000  # Python refuses to read longer integers anyway (4300 digits)
# A decimal stands for an exact value where both agree at six places, as math-verify has it; and
# in at least the first three digits, so that small numbers do not all become equal.
PLACES = 6
AGREEMENT = Fraction(5, 10**4)

_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_REWRITES = (
    (re.compile("\N{MINUS SIGN}"), "-"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:left|right|displaystyle)(?![A-Za-z])|(?<!\\)\\[!$]"), ""),
    # Not after a backslash: `\\ ` ends the row of a matrix.
    (re.compile(r"(?<!\\)\\[,;: ]|~"), " "),
    (re.compile(r"\s+"), " "),
    # `1 2/3` keeps its space, `x + 1` does not.
    (re.compile(r"(?<![0-9A-Za-z]) | (?![0-9A-Za-z])"), ""),
)
_LAST_MARK = re.compile(r"(?<!\.)[.,;]$")  # `17.`, but not `0.333...`
_WHOLE_TEXT = re.compile(r"\\(?:text\w*|mathrm|mathbf|mathsf)\{([^{}]*)\}")

_DIGITS = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)"
_DECIMAL = rf"[+-]?(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_E_NOTATION = r"[eE](?P<exponent>[+-]?[0-9]{1,2})"
_TIMES_TEN = r"\\(?:times|cdot) ?10\^(?:\{(?P<braced>[+-]?[0-9]{1,2})\}|(?P<bare>[0-9]))"
_SCIENTIFIC = re.compile(rf"(?P<mantissa>{_DECIMAL})(?:{_E_NOTATION}|{_TIMES_TEN})?")
_MIXED = rf"(?P<sign>[+-]?)(?:(?P<whole>{_DIGITS})(?: |(?=\\)))?"
_SLASHED = rf"(?P<a>{_DECIMAL})/(?P<b>{_DECIMAL})"
_FRAC = rf"\\frac(?:\{{(?P<c>{_DECIMAL})\}}|(?P<d>[0-9]))(?:\{{(?P<e>{_DECIMAL})\}}|(?P<f>[0-9]))"
_FRACTION = re.compile(rf"{_MIXED}(?:{_SLASHED}|{_FRAC})")
_SPACED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?: [0-9]{3})++(?:\.[0-9]*+)?")  # from `5\,000`
_EQUALS = re.compile(r"(?<![\\<>!:=])=(?!=)")
_SEVERAL = re.compile(
    r"[,;]|\\(?:lor|land|vee|wedge|text\w*\{ ?(?:or|and))|(?<![a-z])(?:or|and)(?![a-z])"
)
_NUMERIC_COMMAND = re.compile(r"\\(?:sqrt|frac|cdot|times|div|pi|pm)(?![A-Za-z])")


@dataclass(frozen=True, slots=True)
class PlainNumber:
    """A rational number that was written out.

    `decimal` is True where it was written with a decimal point.
    """

    value: Fraction
    decimal: bool


def compare_exact(answer: str, gold: str) -> bool | None:
    """Are two answers the same?

    Args:
        answer: what the policy wrote.
        gold: the reference.

    Returns:
        True if surely equal, False if surely different (two plain rational numbers), None if
        undecided. A decimal beside a number it may be a rounding of is equal (`same_decimal`).
        Source: ours.
    """
    return compare_normalized(normalize(answer), normalize(gold))


def compare_normalized(answer: str, gold: str) -> bool | None:
    """`compare_exact` of two texts that `normalize` returned."""
    if answer == gold:
        return True if answer else None
    a, g = plain_number(answer), plain_number(gold)
    if a is None or g is None:
        return None
    if a.value == g.value:
        return True
    if "," in answer or "," in gold:  # `200,100` may be two answers
        return None
    if (a.decimal or g.decimal) and not (_is_whole(a) or _is_whole(g)):
        return same_decimal(a.value, g.value)
    return False


def same_decimal(a: Fraction, b: Fraction) -> bool | None:
    """Do two numbers agree at six decimal places, and in their first digits?

    None where that hangs on how the last bit is rounded.
    """
    difference = abs(a - b)
    if difference > Fraction(101, 10 ** (PLACES + 2)) or difference > AGREEMENT * max(
        abs(a), abs(b)
    ):
        return False
    if _is_tie(a) or _is_tie(b):
        return None
    return round(a, PLACES) == round(b, PLACES)


def _is_tie(number: Fraction) -> bool:
    return abs(number * 10**PLACES % 1 - Fraction(1, 2)) < Fraction(1, 1000)


def _is_whole(number: PlainNumber) -> bool:
    return number.value.denominator == 1


def normalize(text: str) -> str:
    r"""Drop markup that carries no value.

    That is: math delimiters, bold, thin spaces, `\left`, a text command around it all.

    Two texts with the same result say the same; the converse does not hold.
    """
    # Rollouts share golds and often answers; degenerate texts are not worth remembering.
    return _normalized_before(text) if len(text) <= MAX_NUMBER_CHARS else _normalized(text)


def _normalized(text: str) -> str:
    text = _unwrap(text.strip())
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    while match := _WHOLE_TEXT.fullmatch(text):
        text = match.group(1).strip()
    return _LAST_MARK.sub("", text)


_normalized_before = lru_cache(4096)(_normalized)


@lru_cache(4096)
def plain_number(text: str) -> PlainNumber | None:
    r"""Value of a number that is written out; None where the text is anything else.

    Args:
        text: normalized text: `-1,234`, `5 000`, `007`, `.5`, `3.5e3`, `3.5\times10^{3}`, `1/2`,
            `\frac{1}{2}`, `2 1/2`.

    Returns:
        The number; exponents have at most two digits, so that no text can ask for a huge one.
    """
    if len(text) > MAX_NUMBER_CHARS:
        return None
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    if match := _SCIENTIFIC.fullmatch(text):
        exponent = match["exponent"] or match["braced"] or match["bare"] or "0"
        return PlainNumber(_decimal(match["mantissa"]) * Fraction(10) ** int(exponent), "." in text)
    return _fraction(match) if (match := _FRACTION.fullmatch(text)) else None


def equation_sides(text: str) -> list[str]:
    """Sides of a chain of equalities, `x=1/2` -> [`x`, `1/2`].

    The whole text is one side where it is no single chain (`x=1,y=2`, `x=1 or x=2`).
    """
    return [text] if _SEVERAL.search(text) else _EQUALS.split(text)


def is_contradiction(sides: list[str]) -> bool:
    r"""Does a chain of equalities offer more than one value?

    Only the first side may be a name (`x`, `m+n`, `\theta`); every other must be exactly the last
    one. `3=5` and `x=3=5` offer two values and `x=0.5=1/2` one. Source: ours, after math-verify,
    which takes the last side.
    """
    values = sides[1:] if _is_name(sides[0]) else sides
    return any(compare_exact(side, sides[-1]) is not True for side in values[:-1])


def _is_name(side: str) -> bool:
    return re.search(r"[A-Za-z]", _NUMERIC_COMMAND.sub("", side)) is not None


def _unwrap(text: str) -> str:
    for left, right in _WRAPPERS:
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
            inner = text[len(left) : -len(right)]
            if left not in inner and right not in inner:  # `$1$ or $2$` is not one wrapped answer
                return _unwrap(inner.strip())
    return text


def _decimal(text: str) -> Fraction:
    whole, _, places = text.replace(",", "").partition(".")
    sign = -1 if whole.startswith("-") else 1
    digits = whole.lstrip("+-") + places
    return Fraction(sign * int(digits), 10 ** len(places))


def _fraction(match: re.Match[str]) -> PlainNumber | None:
    top = _decimal(match["a"] or match["c"] or match["d"])
    bottom = _decimal(match["b"] or match["e"] or match["f"])
    signed_part = top < 0 or bottom < 0
    if bottom == 0 or (match["whole"] and signed_part):
        return None
    whole = _decimal(match["whole"] or "0")
    value = whole + top / bottom
    return PlainNumber(-value if match["sign"] == "-" else value, decimal=False)
