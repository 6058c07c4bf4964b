r"""Complexity limits for math-verify, measured on the text alone.

Powers of powers, long numbers, deep nesting, sums, integrals and determinants are measured in one
pass, in less than a millisecond. An answer may always be as complex as its gold answer: every
measure of the gold raises the limit. The time limit is the guarantee; these limits avoid frequent
kills of grading processes.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

_LIMITS = {
    "chars": 300,
    "depth": 6,  # math-verify needs 0.4 s for ten nested brackets, and 26 s for eighty
    "brackets": 40,
    "commands": 40,
    "digits": 40,  # of one number
    "exponent": 999,
    "power_of_sum": 10,  # the exponent of a bracket
    "tower": 1,  # powers in exponents
    "factorial": 100,
    "repeated_factorial": 0,
    "operators": 60,
    "separators": 32,
    "cells": 16,
    "strange": 0,  # characters that do not occur in valid answers
}
_COSTLY = (
    "int iint iiint oint sum prod lim limsup liminf det vmatrix binom dbinom tbinom Gamma zeta "
    "bmod pmod mod partial nabla operatorname def input write include newcommand loop csname read "
    "bigcup bigcap max min gcd lcm floor ceil lfloor lceil overline dots ldots cdots vdots"
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_ENVIRONMENT = re.compile(r"\\begin\{([A-Za-z]{1,20})")
_NUMBER = re.compile(r"[0-9]+")
_EXPONENT = re.compile(r"(?:\^|\*\*)\{?[-+]?([0-9]+)")
_POWER_OF_SUM = re.compile(r"[)}\]](?:\^|\*\*)\{?[-+]?([0-9]+)")
_POWER_STEP = re.compile(r"(?P<power>(?:\^|\*\*)[-+ ]?)(?P<open>[({]?)|[({]|[)}]|\\[{}]")
_BARE_TOWER = re.compile(r"(?:\^|\*\*)[-+ ]?(?:[0-9]++|[A-Za-z])(?:\^|\*\*)")
_FACTORIAL = re.compile(r"([0-9]+)!")
_REPEATED = re.compile(r"[)}\]!]!")
# Quotes, control and format characters, and every letter or digit that only looks like ASCII.
_STRANGE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f\"`#@;$?]|__|[^\x00-\x7f×÷·≤≥≠∪∩∞π√±∈°−²³′αβγδθλμω∠△→]"
)
_BRACKETS = re.compile(r"[()\[\]{}|]")
_STEP = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def is_too_complex(answer: str, gold: str) -> bool:
    """Whether an answer exceeds the limits for math-verify, which the gold answer may raise.

    Args:
        answer: normalized.
        gold: normalized; it is never too complex for itself.
    """
    limits = _measures_of_gold(gold)
    return any(value > limits.get(name, 0) for name, value in _measures(answer).items())


@lru_cache(2048)
def _measures_of_gold(gold: str) -> dict[str, int]:
    measured = _measures(gold)
    return measured | {name: max(limit, measured[name]) for name, limit in _LIMITS.items()}


def _measures(text: str) -> dict[str, int]:
    """Value of each measure by name; each costly command is a separate measure."""
    commands = _COMMAND.findall(text)
    environments = _ENVIRONMENT.findall(text)
    named = Counter(f"\\{name}" for name in (*commands, *environments) if name in _COSTLY_NAMES)
    return {
        "chars": len(text),
        "depth": _depth(text),
        "brackets": len(_BRACKETS.findall(text)),
        "commands": len(commands),
        "digits": max(map(len, _NUMBER.findall(text)), default=0),
        "exponent": _largest(_EXPONENT.findall(text)),
        "power_of_sum": _largest(_POWER_OF_SUM.findall(text)),
        "tower": _tower(text),
        "factorial": _largest(_FACTORIAL.findall(text)),
        "repeated_factorial": len(_REPEATED.findall(text)),
        "operators": sum(map(text.count, "+-*/^")),
        "separators": text.count(",") + text.count(";"),
        "cells": text.count("&") + text.count(r"\\"),
        "strange": len(_STRANGE.findall(text)),
        **named,
    }


_COSTLY_NAMES = frozenset(_COSTLY.split())


def _depth(text: str) -> int:
    deepest = depth = 0
    for bracket in _BRACKETS.findall(text):
        depth += _STEP.get(bracket, 0)
        deepest = max(deepest, depth)
    return deepest


def _tower(text: str) -> int:
    """Nesting depth of powers in exponents."""
    highest = 2 if _BARE_TOWER.search(text) else 0
    exponents: list[bool] = []  # open brackets: does one hold an exponent?
    for step in _POWER_STEP.finditer(text):
        if step["power"]:
            highest = max(highest, sum(exponents) + 1)
        if step["open"] or step.group() in ("(", "{"):
            exponents.append(bool(step["power"]))
        elif step.group() in (")", "}") and exponents:
            exponents.pop()
    return highest


def _largest(numbers: list[str]) -> int:
    """The largest of some decimal numbers; more than nine digits count as a billion."""
    return max((int(n) if len(n) < 10 else 10**9 for n in numbers), default=0)
