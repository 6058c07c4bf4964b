r"""Units after a number: `12 \text{ cm}`, `12 cm`, `5 \mathrm{kg}`, `10 am`, `7\text{ apples}`.

A unit is compared as a word, never converted: `m` and `cm` differ, `cm` and `centimeters` do not.
Number words scale the value: `5 \text{ million}` is 5000000.
"""

from __future__ import annotations

import re
from math import prod
from typing import NamedTuple

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
    "%": "percent pct percentage",
    "°": "degree deg",
    "mi/h": "mph",
    "rad": "radian",
    "dollar": "usd \\$",
    "euro": "eur €",
    "£": "gbp",
    "¥": "",
    "₹": "inr",
    "cent": "",
    "day": "",
    "week": "",
    "month": "",
    "year": "yr",
    "/": "per",
    "sq": "square",
    "cu": "cubic",
}
_CANONICAL = {
    spelling: unit for unit, others in _SPELLINGS.items() for spelling in (unit, *others.split())
}
_IGNORED = frozenset(("unit", "units", "of", "the"))  # `12 square units` is `12`
_POWERS = {"sq": "2", "cu": "3"}
_SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
# Not units: words that join or hedge answers, `5 \text{ or } 6`, `5 \text{ maybe}`, and numbers.
_NO_UNIT_WORDS = (
    "or and not nor xor if maybe perhaps to than except either neither but is are vs versus plus "
    "minus over then else unless without instead zero one two three four five six seven eight nine "
    "ten eleven twelve twenty thirty forty fifty half halves thirds"
)
_NO_UNIT = frozenset(_NO_UNIT_WORDS.split())
# Bare single letters are variables; after a space they may be units.
_BARE = sorted((unit for unit in _CANONICAL if unit.isalpha()), key=len, reverse=True)
_WORD = "|".join(f"{unit}s?" if len(unit) > 2 else unit for unit in _BARE if len(unit) > 1)
_LETTER = "|".join(unit for unit in _BARE if len(unit) == 1)
_COMMAND = r"\\(?:text\w*+|mathrm|mbox)"
_POWER = r"(?:\^(?:[23]|\{[23]\}))?"
_UNIT = re.compile(
    rf"(?:(?:/|\\cdot)?{_COMMAND}\{{[^{{}}]{{0,40}}\}}{_POWER}){{1,4}}$"
    rf"|(?:(?<=[0-9}}]) ?(?:(?:square|cubic) )?(?:{_WORD}|units?|per cent)"
    rf"|(?<=[0-9}}]) (?:{_LETTER})){_POWER}$"
)
_SIGN = r"\\\$|[€£¥₹]"
_SIGN_BEFORE = re.compile(rf"(-?)(?:US ?)?({_SIGN}) ?(?=.)")
_SIGN_AFTER = re.compile(rf" ?({_SIGN})$")
_TEMPERATURE = re.compile(
    r"\^(?:\\circ|\{\\circ\}) ?(?:\\(?:text|mathrm)\{ ?(?P<a>[CF]) ?\}|(?P<b>[CF]))$"
)
_PART = re.compile(r"[A-Za-z.]+|[/%°]|\^\{?[23]\}?|(?<=[a-z])[23]")
_WRAPPER = re.compile(rf"{_COMMAND}|\\cdot")


class Quantity(NamedTuple):
    """A text split into its number, its unit in canonical spelling, and a scale (`million`)."""

    number: str
    unit: str = ""
    scale: int = 1


def split_unit(text: str) -> Quantity:
    """Number, unit and scale of a normalized answer; the whole text if it has no unit."""
    if match := _SIGN_BEFORE.match(text):
        rest = _split_words(match[1] + text[match.end() :])  # `\$5 \text{ million}`
        currency = _CANONICAL[match[2]]
        return rest._replace(unit=currency + rest.unit.removeprefix(currency))
    if (match := _SIGN_AFTER.search(text, len(text) - 3)) and match.start():
        return Quantity(text[: match.start()], _CANONICAL[match[1]])
    return _split_words(text)


def _split_words(text: str) -> Quantity:
    """Units that are words or letters, and degrees."""
    if match := _TEMPERATURE.search(text):
        return Quantity(text[: match.start()], f"°{match['a'] or match['b']}")
    match = _UNIT.search(text)
    if match is None or match.start() == 0:
        return Quantity(text)
    unit = _WRAPPER.sub(" ", match.group()).replace("per cent", "percent")
    parts = _PART.findall(unit)
    # Digits and commas do not form units: `5\text{, 6}`.
    if _PART.sub("", unit).strip(" {}-") or not all(map(_may_be_unit, parts)):
        return Quantity(text)
    words = [_word(part) for part in parts]
    scale = prod(_SCALES.get(word, 1) for word in words)
    return Quantity(text[: match.start()].rstrip(), _canonical(words), scale)


def _may_be_unit(part: str) -> bool:
    r"""Whether a text may be a unit: not a connective, not a bare variable (`5\mathrm{i}`)."""
    return part.casefold().strip(".") not in _NO_UNIT and (
        len(part) > 1 or not part.isalpha() or part in _CANONICAL
    )


def _canonical(words: list[str]) -> str:
    unit: list[str] = []
    power = ""
    for word in words:
        if word in _IGNORED or word in _SCALES:
            continue
        if word in _POWERS:
            power = _POWERS[word]
        else:
            unit += [word.strip("^{}"), power]
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
