r"""Names of values: whether the left side of `AB=4` names a value or is part of an equation.

A bare value may answer where the gold answer names one (`k=1`, `AB=4`, `|AB|=1`, `f(x)=1`,
`P(A)=\frac12`, `\angle A=60`, `\frac{dy}{dx}=2x`). It does not determine an equation whose left
side is a polynomial or a number (`2x+z=1`, `x^2+y^2=34`, `7=11a+c`).
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_NAME_CHARS = 80

_GREEK = (
    r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu"
    r"|nu|xi|rho|sigma|tau|phi|varphi|chi|psi|omega|ell|Gamma|Delta|Theta|Lambda|Phi|Psi|Omega)"
)
_INDEX = r"(?:_(?:\{(?:(?!\\n(?:ot|eq?))[^{}]){1,20}\}|[A-Za-z0-9]))?"
_LETTER = rf"(?:[A-Za-z]|{_GREEK}(?![A-Za-z]) ?)"
_POINT = rf"[A-Z]'*{_INDEX}"
_ACCENTS = r"\\(?:overline|overrightarrow|vec|hat|bar|widehat|tilde|mathbf|boldsymbol)"
_ANGULAR = r"\\?(?:sin|cos|tan|cot|sec|csc)(?:\^\{?[0-9]\}?)? ?"
# Quantities that are not polynomials, independent of their contents.
_QUANTITIES = (
    r"\\(?:text\w*|mbox|operatorname|angle|measuredangle|triangle|det|dim|deg|gcd|lcm|arg|Pr|Re|Im"
    r"|max|min|sup|inf|lim|sum|prod|int|oint|nabla|partial)(?![A-Za-z])"
)
# A bracket and its contents are replaced by `#`, so that `f(x)+g(x)` does not match a call.
_VARIABLE = re.compile(rf"{_LETTER}'*{_INDEX}'*")
_FORMS = tuple(
    re.compile(form)
    for form in (
        _VARIABLE.pattern,
        rf"(?:{_POINT}){{2,}}(?:\^\{{?2\}}?)?",  # points: `AB`, `A_1B_1`, `AB^2`
        rf"{_ACCENTS}(?:\{{(?![-0-9.]+\}})[^{{}}]{{1,20}}\}}| ?[A-Za-z]){_INDEX}",
        rf"(?:[fghpquvwFGHPQESTVW]|{_GREEK})'*{_INDEX}(?:\^\{{-1\}})?#",  # functions: `f(2x+1)`
        r"(?:[A-Z][a-z]{2,}|\\(?:mathrm|mathbb|mathcal)\{[A-Za-z]+\})#",  # `Var(X)`
        r"(?:[EP]|\\(?:mathbb|mathrm)\{[A-Za-z]+\})\[[^\[\]]*\]",  # `E[X]`
        rf"{_VARIABLE.pattern}\^(?:\*|\{{\*\}})",  # `x^*`
        rf"{_POINT}(?: ?\\(?:cap|cup|setminus) ?{_POINT})+",  # sets: `A\cap B`
        rf"{_ANGULAR}(?:#|\\angle.*|{_LETTER}{_INDEX}|{_POINT})",
        r"[A-Z][a-z]{3,}(?: [A-Za-z]+)*",  # words
    )
)
_CALL = re.compile(rf"({_LETTER}'*{_INDEX})\((-?[0-9]+|{_LETTER})\)")
_QUANTITY = re.compile(rf"m?{_QUANTITIES}.*")
_POWER = r"(?:\^\{?[0-9]\}?)?"
_DIFFERENTIAL = re.compile(rf"(?:d|\\mathrm\{{d\}}|\\partial){_POWER}(?:{_LETTER}{_POWER})?")
_NESTED = r"([^{}]*(?:\{[^{}]*\}[^{}]*)*)"
_QUOTIENT = re.compile(rf"\\frac\{{{_NESTED}\}}\{{{_NESTED}\}}")
_ROUND = re.compile(r"\([^()]*\)")
_BRACKETED = re.compile(r"\{[^{}]*\}")
_SQUARE = re.compile(r"\[[^\[\]]*\]")
_SIGN = re.compile(r"[^\^_,:]\s*[-+]")
_BARS = (("|", "|"), (r"\|", r"\|"), (r"\lvert", r"\rvert"), ("[", "]"))
_VECTOR = re.compile(_ACCENTS)
_RELATION = re.compile(
    r"[<>=≠≤≥≈]|\\(?:not|neq?|[lg]eq?(?:slant)?|[lg]t|approx|sim|equiv|in|notin|to)(?![A-Za-z])"
)
# What offers an answer or denies one names nothing: `\text{5 or }x=6`, `\text{not}=6`, `\det 5=6`.
_NO_NAME = re.compile(
    r"\b(?:or|[Nn]ot|no(?!\.)|[Nn]ever|isn.?t|nor|[Ee]ither|[Nn]either|[Ee]xcept)\b"
    r"|\\(?:text\w*+|mbox)\{(?:\s*[-+]?[0-9.]|[^{}]*[,;=<>])"
    r"|^\\(?!angle|measuredangle|triangle)[A-Za-z]+ ?[-+]?[0-9.]++$"
)
_TERM = re.compile(r"[-+]|\\(?:cdot|times)(?![A-Za-z])")
_COEFFICIENT = re.compile(r"[0-9.]*\s*")
_DROPPED = re.compile(r"\s+|\\(?:overline|overrightarrow|mathbf|vec|lvert|rvert)(?![A-Za-z])|[{}|]")


@lru_cache(2048)
def is_name(text: str) -> bool:
    """Whether a normalized text names one value, rather than computing with several."""
    if not 0 < len(text) <= MAX_NAME_CHARS:
        return False
    if ":" in text:
        return all(map(is_name, text.split(":")))
    if quotient := _quotient(text):
        return all(is_name(part) or _DIFFERENTIAL.fullmatch(part) for part in quotient)
    if (inner := _between_bars(text)) is not None:
        return is_name(inner) or bool(_VECTOR.search(inner) and not _RELATION.search(inner))
    flat = _replaced(_ROUND, text)
    if denies(flat):
        return False
    if any(form.fullmatch(flat) for form in _FORMS) or _CALL.fullmatch(text):
        return True
    # `\angle ABC`, `\text{Area of }ABC`, but not a sum or relation that begins with one.
    flat = _replaced(_SQUARE, _replaced(_BRACKETED, flat))
    return bool(_QUANTITY.fullmatch(flat) and not _RELATION.search(flat) and not _SIGN.search(flat))


def is_sum_of_names(text: str) -> bool:
    r"""Whether it is a sum of two names or more: `f(1)+2f(2)`, `\angle A+\angle B`."""
    if len(text) > MAX_NAME_CHARS:
        return False
    terms = [_COEFFICIENT.sub("", term, count=1).strip() for term in _terms(text)]
    return len(terms) > 1 and all(map(is_name, terms))


def _terms(text: str) -> list[str]:
    """Parts between signs outside all brackets."""
    hidden = _hidden(text)
    starts = [0, *(match.end() for match in _TERM.finditer(hidden))]
    ends = [*(match.start() for match in _TERM.finditer(hidden)), len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def _hidden(text: str) -> str:
    """The text with `#` for every character in a bracket."""
    depth, hidden = 0, []
    for character in text:
        depth -= character in ")]}"
        hidden.append("#" if depth else character)
        depth += character in "([{"
    return "".join(hidden)


def denies(text: str) -> bool:
    """Whether a word in it denies something or offers another value."""
    return _NO_NAME.search(text) is not None


def is_variable(text: str) -> bool:
    """Whether a text is one letter, with an optional index."""
    return _VARIABLE.fullmatch(text) is not None


def canonical(text: str) -> str:
    """Canonical spelling: `V_{1}` is `V_1`; `|AB|` and `BA` are `AB`, but `|x|` is not `x`."""
    plain = _DROPPED.sub("", text)
    is_segment = len(plain) == 2 and plain.isascii() and plain.isalpha() and plain.isupper()
    if is_segment:
        return "".join(sorted(plain))
    return f"|{plain}|" if is_variable(_between_bars(text) or "") else plain


def call(text: str) -> tuple[str, str] | None:
    """Function and argument of `f(x)` or `a(3)`; None for any other name."""
    match = _CALL.fullmatch(text)
    return (match[1], match[2]) if match else None


def _quotient(text: str) -> tuple[str, ...]:
    if match := _QUOTIENT.fullmatch(text):
        return match.groups()
    parts = text.split("/")
    return tuple(parts) if len(parts) == 2 else ()


def _between_bars(text: str) -> str | None:
    for left, right in _BARS:
        inside = len(text) - len(left) - len(right)
        if inside > 0 and text.startswith(left) and text.endswith(right):
            inner = text[len(left) : len(left) + inside].strip()
            return None if left in inner else inner
    return None


def _replaced(bracket: re.Pattern[str], text: str) -> str:
    """The text with `#` for every outermost bracket."""
    previous = ""
    while text != previous:
        previous, text = text, bracket.sub("#", text)
    return text
