r"""Tokens of a short LaTeX answer.

The text is read in one linear pass. Different spellings become one token (`\cdot`, `×` and `\times`
are `*`, `\leq` and `≤` are `<=`). An unknown token ends the reading, and the answer goes to
math-verify.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

MAX_TOKENS = 300


class UnreadableError(ValueError):
    """The text is outside the grammar or exceeds its bounds; its value stays undecided."""


class Kind(StrEnum):
    """The kind of a token."""

    NUMBER = "number"
    LETTER = "letter"  # a variable, or e, i
    CONSTANT = "constant"  # \pi, \infty
    FUNCTION = "function"
    TEXT = "text"  # content of \text{...}
    FIELD = "field"  # \mathbb{R}
    MATRIX = "matrix"  # \begin{pmatrix}, \end{pmatrix}
    SYMBOL = "symbol"  # everything else: operators, brackets, relations, commands with arguments


class Token(NamedTuple):
    """A token, and whether white space precedes it."""

    kind: Kind
    text: str
    spaced: bool = False


FUNCTIONS = ("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "ln", "exp")
_BARE_NAMES = rf"arc(?:sin|cos|tan)|{'|'.join(FUNCTIONS[:6])}|ln|log|exp|sqrt|pi|infinity"
_TOKEN = re.compile(
    rf"""(?P<space>\s+)
    | (?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)
    | (?P<degree>\^\{{?\\circ\}}?|\\degree|°)
    | \\(?:text\w*|mathrm|mathbf|mathsf|mbox)\{{(?P<text>[^{{}}]*)\}}
    | \\mathbb\{{?(?P<field>[RZNQC])\}}?
    | \\(?P<matrix>begin|end)\{{(?:p|b|small|)matrix\}}
    | \\(?P<command>[A-Za-z]+|[\\{{}}%])
    | (?P<connective>(?<![A-Za-z])(?:or|and)(?![A-Za-z]))
    | (?P<name>{_BARE_NAMES})
    | (?P<letter>[A-Za-z])
    | (?P<symbol>\*\*|<=|>=|!=|[-+*/^_=<>()\[\]{{}},;:|!%&×·÷≤≥≠∪∞π√±∈θ])""",
    re.VERBOSE,
)
_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega"
)
_DROPPED = ("quad", "qquad", "displaystyle", "limits", "big", "Big", "bigl", "bigr", "Bigl", "Bigr")
_SYMBOLS = {
    **dict.fromkeys(("cdot", "times", "ast", "×", "·"), "*"),
    **dict.fromkeys(("div", "÷"), "/"),
    **dict.fromkeys(("le", "leq", "leqslant", "≤"), "<="),
    **dict.fromkeys(("ge", "geq", "geqslant", "≥"), ">="),
    **dict.fromkeys(("ne", "neq", "≠"), "!="),
    **dict.fromkeys(("lvert", "rvert", "vert", "mid"), "|"),
    **dict.fromkeys(("cup", "∪"), "cup"),
    **dict.fromkeys(("in", "∈"), "in"),
    **dict.fromkeys(("pm", "±"), "±"),
    **dict.fromkeys(("setminus", "backslash"), "setminus"),
    **dict.fromkeys(("emptyset", "varnothing"), "emptyset"),
    **dict.fromkeys(("sqrt", "√"), "sqrt"),
    **dict.fromkeys(("lor", "vee"), "or"),
    **dict.fromkeys(("land", "wedge"), "and"),
    **{"lt": "<", "gt": ">", "langle": "(", "rangle": ")", "colon": ":", "**": "^", "frac": "frac"},
    **{r"\{": r"\{", r"\}": r"\}", "lbrace": r"\{", "rbrace": r"\}", "\\": r"\\", "%": "%"},
    **{"binom": "binom", "dbinom": "binom", "tbinom": "binom", "log": "log"},
}
_CONSTANTS = {"pi": "pi", "π": "pi", "infty": "infty", "infinity": "infty", "∞": "infty"}
_CONNECTIVES = ("or", "and")


def _names() -> dict[str, Token]:
    """Token of every command, bare name and symbol, ready-made."""
    known = {text: Token(Kind.SYMBOL, text) for text in "+-*/^_=<>()[]{},;:|!%&"}
    known |= {text: Token(Kind.SYMBOL, text) for text in ("<=", ">=", "!=", *_CONNECTIVES)}
    known |= {text: Token(Kind.SYMBOL, symbol) for text, symbol in _SYMBOLS.items()}
    known |= {text: Token(Kind.CONSTANT, name) for text, name in _CONSTANTS.items()}
    known |= {text: Token(Kind.FUNCTION, text) for text in FUNCTIONS}
    known |= {text: Token(Kind.LETTER, f"\\{text}") for text in _GREEK.split()}
    return known | {"θ": Token(Kind.LETTER, r"\theta")}


_NAMES = _names()
_PLAIN_KINDS = {"number": Kind.NUMBER, "letter": Kind.LETTER, "field": Kind.FIELD}


def tokenize(text: str) -> list[Token]:
    """Tokens of a normalized answer.

    Args:
        text: result of `bard_ray.verify.math.normalize.normalize`.

    Returns:
        At least one token, at most `MAX_TOKENS`.

    Raises:
        UnreadableError: an unknown command or character, or too many tokens.
    """
    tokens: list[Token] = []
    position, spaced = 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(tokens) == MAX_TOKENS:
            raise UnreadableError
        position = match.end()
        token = _token(match)
        if token is None:
            spaced = True
            continue
        tokens.append(token._replace(spaced=True) if spaced else token)
        spaced = False
    if not tokens:
        raise UnreadableError
    return tokens


def _token(match: re.Match[str]) -> Token | None:
    """Token of one match; None for white space."""
    group = str(match.lastgroup)
    text = match[group]
    if group in _PLAIN_KINDS:
        return Token(_PLAIN_KINDS[group], text)
    if group == "text":
        return _text_token(text.strip())
    if group == "degree":
        return Token(Kind.SYMBOL, "°")
    if group == "matrix":
        return Token(Kind.MATRIX, text)
    if group == "space" or text in _DROPPED:
        return None
    if group == "command" and text in ("{", "}"):
        text = f"\\{text}"
    if text not in _NAMES:
        raise UnreadableError
    return _NAMES[text]


def _text_token(content: str) -> Token | None:
    if not content:
        return None
    lowered = content.casefold()
    if lowered in _CONNECTIVES:
        return Token(Kind.SYMBOL, lowered)
    if len(content) == 1 and content.isalpha() and content.isascii():
        return Token(Kind.LETTER, content)
    return Token(Kind.TEXT, content)
