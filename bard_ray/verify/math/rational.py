"""Plain rational numbers: parsing, and matching of decimals that round them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_NUMBER_CHARS = 1000  # Python refuses to read longer integers anyway (4300 digits)
# A decimal matches an exact value if both agree at six places, as in math-verify, and in at least
# the first three digits, so that small numbers are not all equal.
PLACES = 6
AGREEMENT = Fraction(5, 10**4)

_DIGITS = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)"
_DECIMAL = rf"[+-]?(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_E_NOTATION = r"[eE](?P<exponent>[+-]?[0-9]{1,2})"
_TIMES_TEN = r"\\(?:times|cdot) ?10\^(?:\{(?P<braced>[+-]?[0-9]{1,2})\}|(?P<bare>[0-9]))"
_SCIENTIFIC = re.compile(rf"(?P<mantissa>{_DECIMAL})(?:{_E_NOTATION}|{_TIMES_TEN})?")
_MIXED = rf"(?P<sign>[+-]?)(?:(?P<whole>{_DIGITS})(?: |(?=\\)))?"
_SLASHED = rf"(?P<a>{_DECIMAL})/(?P<b>{_DECIMAL})"
_FRAC = rf"\\frac(?:\{{(?P<c>{_DECIMAL})\}}|(?P<d>[0-9]))(?:\{{(?P<e>{_DECIMAL})\}}|(?P<f>[0-9]))"
_FRACTION = re.compile(rf"{_MIXED}(?:{_SLASHED}|{_FRAC})")
_REPEATING = re.compile(r"([+-]?)([0-9]*)\.([0-9]*)\\overline\{([0-9]+)\}")
_SPACED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?: [0-9]{3})++(?:\.[0-9]*+)?")  # from `5\,000`


@dataclass(frozen=True, slots=True)
class PlainNumber:
    """A rational number given by digits.

    `decimal` is True if it was written with a decimal point.
    """

    value: Fraction
    decimal: bool

    @property
    def whole(self) -> bool:
        """Whether it is an integer."""
        return self.value.denominator == 1


@lru_cache(4096)
def plain_number(text: str) -> PlainNumber | None:
    r"""Parse a plain number; None for any other text.

    Args:
        text: normalized text: `-1,234`, `5 000`, `007`, `.5`, `3.5e3`, `3.5\times10^{3}`, `1/2`,
            `\frac{1}{2}`, `2 1/2`, `0.1\overline{6}`.

    Returns:
        The number; exponents have at most two digits, which bounds its size.
    """
    if len(text) > MAX_NUMBER_CHARS:
        return None
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    if match := _SCIENTIFIC.fullmatch(text):
        exponent = match["exponent"] or match["braced"] or match["bare"] or "0"
        return PlainNumber(_decimal(match["mantissa"]) * Fraction(10) ** int(exponent), "." in text)
    if match := _REPEATING.fullmatch(text):
        return _repeating(*match.groups())
    return _fraction(match) if (match := _FRACTION.fullmatch(text)) else None


def same_decimal(a: Fraction, b: Fraction) -> bool | None:
    """Whether two numbers agree at six decimal places and in their first digits.

    None if that depends on the rounding of the last bit.
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


def _decimal(text: str) -> Fraction:
    whole, _, places = text.replace(",", "").partition(".")
    sign = -1 if whole.startswith("-") else 1
    digits = whole.lstrip("+-") + places
    return Fraction(sign * int(digits), 10 ** len(places))


def _repeating(sign: str, whole: str, places: str, period: str) -> PlainNumber:
    """A repeating decimal, which is exact and therefore not marked as `decimal`."""
    start = Fraction(int(f"0{whole}{places}"), 10 ** len(places))
    rest = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(places))
    return PlainNumber(-(start + rest) if sign == "-" else start + rest, decimal=False)


def _fraction(match: re.Match[str]) -> PlainNumber | None:
    top = _decimal(match["a"] or match["c"] or match["d"])
    bottom = _decimal(match["b"] or match["e"] or match["f"])
    signed_part = top < 0 or bottom < 0
    if bottom == 0 or (match["whole"] and signed_part):
        return None
    whole = _decimal(match["whole"] or "0")
    value = whole + top / bottom
    return PlainNumber(-value if match["sign"] == "-" else value, decimal=False)
