r"""Remove markup that carries no value from an answer, and convert Unicode to LaTeX.

Texts with the same result have the same meaning; the converse does not hold. Two signs preserve
information of the original: `\$` is a currency, and `;` is a comma and a space between digits,
which separates answers (`32, 349`), while a comma alone may separate thousands or decimal places.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_REMEMBERED_CHARS = 1000
MAX_WRAPPERS = 8  # around one another

_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
# Text that must occur for a rule to apply, the pattern, and its replacement.
_SPACE = re.compile(r"\s+")
_REWRITES = (
    ("", _SPACE, " "),  # first, so that no other rule meets a long run of it
    ("{", re.compile(r"\s*+\{\s*+,\s*+\}\s*+"), ","),
    ("\\", re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    ("\\", re.compile(r"\\(?:left|right|displaystyle)(?![A-Za-z])|(?<!\\)\\!\s*+"), ""),
    # Not after a backslash: `\\ ` ends the row of a matrix.
    ("\\", re.compile(r"(?<!\\)\\[,;: ]|\\q?quad"), " "),
    ("~", re.compile("~"), " "),
    ("  ", _SPACE, " "),
    (" ", re.compile(r"(?<=[0-9]) ?, (?=[0-9])"), ";"),
    # `1 2/3` keeps its space, `x + 1` does not.
    (" ", re.compile(r"(?<![0-9A-Za-z]) | (?![0-9A-Za-z])"), ""),
)
_LAST_MARK = re.compile(r"(?<!\.)[.,;]$")  # `17.`, but not `0.333...`
WHOLE_TEXT = re.compile(r"\\(?:text\w*|mathrm|mathbf|mathsf)\{([^{}]*)\}")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)

# A single dollar sign before or after a number.
_BARE_DOLLAR = re.compile(r"(?<!\\)\$")
_CURRENCY = re.compile(
    r"(?<![\w\\.)}$])\$(?=\s*+-?(?:[0-9.]|\\[dt]?frac))|(?<=[0-9}])\s*+\$(?=\s*+$)"
)

_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙ"
_PLAIN = str.maketrans(_RAISED + _LOWERED, "0123456789+-()n" * 2)
_RAISED_RUN, _LOWERED_RUN = re.compile(f"[{_RAISED}]+"), re.compile(f"[{_LOWERED}]+")
# `15m²`: a letter right after a digit is a factor, but with a Unicode square it is a unit.
_METERS = re.compile(r"(?<=[0-9}])\s?([kcdm]?m)([²³])")
_SPELLED = str.maketrans(
    {
        **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}", "-"),
        **dict.fromkeys("\N{FRACTION SLASH}\N{DIVISION SLASH}", "/"),
        **{"\N{PRIME}": "'", "\N{FULLWIDTH COMMA}": ", ", "\N{FULLWIDTH SEMICOLON}": ";"},
        **{"½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}"},
        **{"¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}", "⅛": r"\frac{1}{8}"},
        **{"∛": r"\sqrt[3]", "≈": r"\approx ", "∠": r"\angle ", "△": r"\triangle "},
        **{"α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "θ": r"\theta "},
        **{"λ": r"\lambda ", "μ": r"\mu ", "φ": r"\varphi ", "ω": r"\omega "},
    }
)
_TOO_DEEP = "{" * (MAX_WRAPPERS + 1)


def normalize(text: str) -> str:
    r"""The text without markup that carries no value, with Unicode spelled as LaTeX.

    That is: math delimiters, bold, thin spaces, `\left`, a text command around it all.
    """
    # Rollouts share golds and often answers; degenerate texts are not worth caching.
    return _normalized_before(text) if len(text) <= MAX_REMEMBERED_CHARS else _normalized(text)


def _normalized(text: str) -> str:
    text = _unwrap(text.strip())
    if not text.isascii():
        text = _spelled(text)
    if "$" in text:
        text = _without_dollars(text)
    for sign, pattern, replacement in _REWRITES:
        if sign in text:
            text = pattern.sub(replacement, text)
    return _LAST_MARK.sub("", _without_wrapper(text))


_normalized_before = lru_cache(4096)(_normalized)


def _unwrap(text: str) -> str:
    for left, right in _WRAPPERS:
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
            inner = text[len(left) : -len(right)]
            if left not in inner and right not in inner:  # `$1$ or $2$` is not one wrapped answer
                return _unwrap(inner.strip())
    return text


def _without_wrapper(text: str) -> str:
    """The text without a text command or braces around all of it."""
    if text.startswith(_TOO_DEEP):  # no answer, and every layer costs a pass over the text
        return text
    for _ in range(MAX_WRAPPERS):
        if match := WHOLE_TEXT.fullmatch(text):
            text = match.group(1).strip()
        elif text.startswith("{") and _closes_last(text):
            text = text[1:-1].strip()
        else:
            break
    return text


def _closes_last(text: str) -> bool:
    """Whether the first brace closes with the last character."""
    depth = 0
    for match in _BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return match.end() == len(text)
    return False


def _spelled(text: str) -> str:
    text = _METERS.sub(r"\\text{ \1}\2", text)
    text = _RAISED_RUN.sub(lambda match: f"^{{{match[0].translate(_PLAIN)}}}", text)
    text = _LOWERED_RUN.sub(lambda match: f"_{{{match[0].translate(_PLAIN)}}}", text)
    return text.translate(_SPELLED)


def _without_dollars(text: str) -> str:
    r"""Rewrite one bare dollar sign, a currency, as `\$`; several delimit formulas."""
    if len(_BARE_DOLLAR.findall(text)) > 1:
        return _BARE_DOLLAR.sub(" ", text)
    return _CURRENCY.sub(r"\\$", text)
