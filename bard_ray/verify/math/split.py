r"""Split the text of an answer at its top level, outside all brackets, in one linear pass.

An answer is a list of parts (`x=1,y=2`, `3\text{ or }5`), a part is a chain of sides (`x=2+3=5`).
Commas between digits may separate thousands or be decimal points; `joined_digits` returns the texts
with these readings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

EQUAL, ROUNDED = "=", "≈"
_LIST = frozenset((",", ";", "or", "and"))
_CHAIN = frozenset((EQUAL, ROUNDED))
_JOINT = r"\s*,?\s*(or|and)\s*,?\s*"
_SCAN = re.compile(
    rf"""\\(?:text\w*+|mathrm|mbox)\{{{_JOINT}\}}
    | \\(lor|land|vee|wedge|approx|simeq|equiv|begin|end|langle|rangle)(?![A-Za-z])
    | (\\[{{}}])
    | (?<![A-Za-z\\])(or|and)(?![A-Za-z])
    | (?<=[0-9)}}])(or|and)(?=[A-Za-z]=)  # `x=2orx=3`
    | [<>:]=|(==)|(?<![0-9)}}])!=  # `5!=120` is no inequality
    | ([()\[\]{{}},;=])""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {
    **{"lor": "or", "vee": "or", "land": "and", "wedge": "and"},
    **{"approx": ROUNDED, "simeq": ROUNDED, "equiv": EQUAL, "==": EQUAL},
}
_OPENING = frozenset(("(", "[", "{", r"\{", "begin", "langle"))
_CLOSING = frozenset((")", "]", "}", r"\}", "end", "rangle"))
_MAY_CUT = re.compile(r"[,;=]|\\(?:lor|land|vee|wedge|approx|simeq|equiv)|or|and")

_MAY_CHAIN = re.compile(r"=|\\(?:approx|simeq|equiv)")
_BETWEEN_DIGITS = re.compile(r"[0-9],[0-9]")

_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})++(?![0-9,])")
_DECIMAL = re.compile(r"(?<![0-9.,])([0-9]++),([0-9]++)(?![0-9.,])")


class Mark(NamedTuple):
    """A separator outside all brackets, with its position."""

    start: int
    end: int
    kind: str


class Part(NamedTuple):
    """A part of a text, and the separator before it; empty for the first."""

    text: str
    separator: str


def marks(text: str) -> list[Mark]:
    """Separators of a normalized text outside all brackets; brackets need not match in kind."""
    if not _MAY_CUT.search(text):
        return []
    found: list[Mark] = []
    depth = 0
    for match in _SCAN.finditer(text):
        kind = match[match.lastindex] if match.lastindex else ""
        if kind in _OPENING:
            depth += 1
        elif kind in _CLOSING:
            depth -= 1
        elif kind and depth == 0:
            found.append(Mark(match.start(), match.end(), _WORDS.get(kind, kind)))
    return found


def list_parts(text: str) -> list[Part]:
    """Parts between commas, semicolons, "or" and "and", without the empty part of `1, 2, and 3`.

    Any other empty part is kept, because a text such as `5 or` is incomplete.
    """
    first, *others = _cut(text, [mark for mark in marks(text) if mark.kind in _LIST])
    kept = [first]
    for part in others:
        if not kept[-1].text and kept[-1].separator == "," and part.separator in ("or", "and"):
            kept.pop()
        kept.append(part)
    return kept


def chain_sides(text: str) -> list[Part]:
    """Sides of a chain of equalities; the whole text if it is not a chain, or is a list."""
    if not _MAY_CHAIN.search(text):
        return [Part(text, "")]
    found = marks(text)
    if any(mark.kind in _LIST for mark in found):
        return [Part(text, "")]
    return _cut(text, [mark for mark in found if mark.kind in _CHAIN])


def joined_digits(text: str, no_list: bool) -> list[str]:
    """The text with its commas between digits as separators of thousands, or as decimal points.

    Args:
        text: normalized text.
        no_list: read a comma as a decimal point only if it cannot separate two answers (`0,05`).
    """
    if not _BETWEEN_DIGITS.search(text):
        return []
    commas = {mark.start for mark in marks(text) if mark.kind == ","}
    joined = [_thousands_joined(text, commas), _decimals_joined(text, commas, no_list)]
    return [variant for variant in joined if variant != text]


def _cut(text: str, found: Iterable[Mark]) -> list[Part]:
    parts: list[Part] = []
    start, separator = 0, ""
    for mark in found:
        parts.append(Part(text[start : mark.start].strip(), separator))
        start, separator = mark.end, mark.kind
    return [*parts, Part(text[start:].strip(), separator)]


def _thousands_joined(text: str, commas: set[int]) -> str:
    """Remove thousands separators outside brackets: `(100,200)` is a pair."""

    def joined(match: re.Match[str]) -> str:
        inside = any(match.start() < comma < match.end() for comma in commas)
        return match[0].replace(",", "") if inside else match[0]

    return _THOUSANDS.sub(joined, text)


def _decimals_joined(text: str, commas: set[int], no_list: bool) -> str:
    """Convert decimal commas if there is one comma, or semicolons separate: `1,5`, `(1,5;2,5)`."""
    single = len(commas) == 1 and text.count(",") == 1
    if not (single or ";" in text) or _THOUSANDS.search(text):
        return text

    def pointed(match: re.Match[str]) -> str:
        whole, places = match.groups()
        # `5,0` may be the answers 5 and 0, but `05` is not an answer.
        is_list = places == "0" or (no_list and not places.startswith("0"))
        return match[0] if is_list else f"{whole}.{places}"

    return _DECIMAL.sub(pointed, text)
