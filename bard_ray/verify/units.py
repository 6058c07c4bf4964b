r"""Units after a number: `12 \text{ cm}`, `12 cm`, `5 \mathrm{kg}`, `10 am`, `7\text{ apples}`.

A unit is compared as a word, never converted: `m` and `cm` differ, `cm` and `centimeters` do not.
"""

from __future__ import annotations

import re

_SPELLINGS = {
    "cm": "centimeter centimetre",
    "mm": "millimeter millimetre",
    "m": "meter metre",
    "km": "kilometer kilometre",
    "in": "inch inche",  # `inches` without its s
    "ft": "foot feet",
    "yd": "yard",
    "mi": "mile",
    "kg": "kilogram kilogramme",
    "g": "gram gramme",
    "mg": "milligram",
    "lb": "pound",
    "oz": "ounce",
    "L": "l liter litre",
    "mL": "ml milliliter millilitre",
    "s": "sec second",
    "min": "minute",
    "h": "hr hour",
    "am": "a.m",
    "pm": "p.m",
    "N": "newton",
    "J": "joule",
    "W": "watt",
    "V": "volt",
    "Hz": "hertz",
    "%": "percent",
    "°": "degree deg",
    "mph": "",
    "rad": "radian",
    "dollar": "usd",
    "cent": "",
    "day": "",
    "week": "",
    "month": "",
    "year": "yr",
    "sq": "square",
    "cu": "cubic",
}
_CANONICAL = {
    spelling: unit for unit, others in _SPELLINGS.items() for spelling in (unit, *others.split())
}
_IGNORED = frozenset(("unit", "units", "of", "the"))  # `12 square units` is `12`
_POWERS = {"sq": "2", "cu": "3"}
# Words that join answers or doubt them make no unit: `5 \text{ or } 6`, `5 \text{ maybe}`.
_NO_UNIT = frozenset(
    ("or", "and", "not", "if", "maybe", "perhaps", "to", "than", "except", "either", "but", "is")
)
# Bare single letters are variables; after a space they may be units.
_BARE = sorted((unit for unit in _CANONICAL if unit.isalpha()), key=len, reverse=True)
_WORD = "|".join(f"{unit}s?" if len(unit) > 2 else unit for unit in _BARE if len(unit) > 1)
_LETTER = "|".join(unit for unit in _BARE if len(unit) == 1)
_TEXT_UNIT = r"\\(?:text\w*+|mathrm|mathbf|mathsf|mbox)\{[^{}]{0,40}\}(?:\^(?:[23]|\{[23]\}))?"
_UNIT = re.compile(
    rf"(?:(?:/|\\cdot)?{_TEXT_UNIT}){{1,4}}$"
    rf"|(?:(?<=[0-9}}]) ?(?:{_WORD}|units?)|(?<=[0-9}}]) (?:{_LETTER}))(?:\^(?:[23]|\{{[23]\}}))?$"
)
_PART = re.compile(r"[A-Za-z.]+|[/%°]|[23]")
_WRAPPER = re.compile(r"\\(?:text\w*+|mathrm|mathbf|mathsf|mbox)|\\cdot")
MAX_WORDS = 4


def split_unit(text: str) -> tuple[str, str]:
    """Number and unit of a normalised answer.

    Returns:
        The part before the unit and the unit in canonical spelling; the whole text and an empty
        unit where there is none.
    """
    match = _UNIT.search(text)
    if match is None or match.start() == 0:
        return text, ""
    parts = _PART.findall(_WRAPPER.sub(" ", match.group()))
    words = [part.casefold() for part in parts]
    if len(parts) > 2 * MAX_WORDS or not _NO_UNIT.isdisjoint(words):
        return text, ""
    return text[: match.start()].rstrip(), _canonical(parts)


def _canonical(parts: list[str]) -> str:
    unit: list[str] = []
    power = ""
    for part in parts:
        word = _word(part)
        if word in _IGNORED:
            continue
        if word in _POWERS:
            power = _POWERS[word]
        else:
            unit += [word, power]
            power = ""
    return "".join(unit)


def _word(part: str) -> str:
    plain = part.rstrip(".")
    if plain in _CANONICAL:
        return _CANONICAL[plain]
    lowered = plain.casefold()
    singular = lowered.removesuffix("s") if len(lowered) > 2 else lowered
    for spelling in (lowered, singular):
        if len(spelling) > 1 and spelling in _CANONICAL:
            return _CANONICAL[spelling]
    return singular
