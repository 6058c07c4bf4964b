r"""Refuse what math-verify would drop from an answer instead of reading it.

It drops text in any font, primes and commands that it does not know, reads a number up to the first
thing that it cannot place, and takes the last side of an equation: `5\mathrm{ or 6}` is 5 to it.
What the gold answer has as well may stay.
"""

from __future__ import annotations

import re

_TEXT = re.compile(
    r"\\(?:text\w*+|[mh]box|math(?:rm|it|bf|sf|tt|cal|frak|scr)|boldsymbol|operatorname)"
    r"\s*+\{([^{}]*+)\}"
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_KNOWN_NAMES = (
    "frac sqrt cdot times ast div pm mp binom dbinom tbinom left right big Big bigl bigr Bigl Bigr "
    "le leq leqslant ge geq geqslant lt gt cup cap in setminus backslash emptyset varnothing "
    "infty pi infinity circ degree quad qquad limits displaystyle begin end lor land vee wedge "
    "lvert rvert vert mid lbrace rbrace langle rangle colon mathbb overline angle triangle "
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech "
    "csch arcsinh arccosh arctanh ln log lg exp sum prod int lim max min gcd lcm floor ceil "
    "lfloor rfloor lceil rceil cdots ldots dots det mod bmod pmod "
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu "
    "xi rho sigma tau upsilon phi varphi chi psi omega ell Gamma Delta Theta Lambda Xi Pi Sigma "
    "Upsilon Phi Psi Omega"
)
_KNOWN = frozenset(_KNOWN_NAMES.split())
# A prime, a relation inside brackets, `7 e 9`, `7 a 9`.
_MARKS = (
    re.compile(r"['′″]"),
    re.compile(r"(?<![<>])=|[≠≡≈]"),
    re.compile(r"[0-9.] +[A-Za-z]+ *[-+]?[0-9]|[0-9.][A-Za-z]+ +[-+]?[0-9]"),
)


def is_partly_dropped(answer: str, gold: str) -> bool:
    """Does an answer hold something that math-verify would take no notice of?

    Args:
        answer: normalized, one side of an equation where the gold answer is none.
        gold: normalized.
    """
    if not {*_TEXT.findall(answer)} <= {*_TEXT.findall(gold)}:
        return True
    if not _commands(answer) <= _KNOWN | _commands(gold):
        return True
    return any(mark.search(answer) and not mark.search(gold) for mark in _MARKS)


def _commands(text: str) -> set[str]:
    return set(_COMMAND.findall(_TEXT.sub(" ", text)))
