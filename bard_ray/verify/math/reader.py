r"""From the text of an answer to its shape (see `bard_ray.verify.math.structure`).

Tokens are split at the top level, outside all brackets: first at "or" and commas, then at
relations, then at set operators; what is left is a bracket around a list, a matrix, or a scalar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from bard_ray.verify.math.compare import PlainNumber, plain_number
from bard_ray.verify.math.expression import Name, Number, Operation
from bard_ray.verify.math.formula import Formula, read_formula
from bard_ray.verify.math.regions import INFINITY, MINUS_INFINITY, from_chain, from_operators
from bard_ray.verify.math.structure import (
    BaseNumber,
    Equation,
    Interval,
    Listing,
    Matrix,
    Ratio,
    Region,
    Scalar,
    Set,
    Shape,
    Tuple,
    Words,
)
from bard_ray.verify.math.tokens import Kind, Token, UnreadableError, tokenize
from bard_ray.verify.math.units import Quantity, split_unit

MAX_CHARS = 600
MAX_ITEMS = 64
_GOLDS_REMEMBERED = 2048
_OPENING, _CLOSING = frozenset(("(", "[", "{", r"\{")), frozenset((")", "]", "}", r"\}"))
_RELATIONS = frozenset(("=", "<", ">", "<=", ">=", "!=", "in"))
_BASE_NUMBER = re.compile(r"([0-9]+)_(?:\{([0-9]{1,2})\}|([0-9]{1,2}))")
_WORDS = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]+)*|[A-Za-z](?: [A-Za-z]+)* [A-Za-z]{3,}")
# `, k \in \mathbb{Z}` behind a general solution says nothing new.
_QUALIFIER = re.compile(
    r"[,(]?(?:\\text\{ ?(?:for|where) ?\})?[kmnl]\\in ?\\mathbb(?:\{Z\}| ?Z)\)?$"
)
_QUALIFIER_START = r"\mathbb"
MAX_PRODUCT_LETTERS = 6


@lru_cache(_GOLDS_REMEMBERED)
def read_gold(text: str) -> tuple[Shape, ...]:
    """Shapes of a gold answer, as `read_answer`; remembered, because rollouts share golds."""
    return read_answer(text)


def read_answer(text: str) -> tuple[Shape, ...]:
    """Shapes that a normalized answer may have.

    Args:
        text: what `bard_ray.verify.math.compare.normalize` returned.

    Returns:
        One shape; two where a comma may separate thousands or answers; none where the text is
        outside the grammar.
    """
    if len(text) > MAX_CHARS:
        return ()
    if _QUALIFIER_START in text:
        text = _QUALIFIER.sub("", text)
    number = plain_number(text)
    shapes: list[Shape] = [] if number is None else [Scalar(_formula(number))]
    if number is None or "," in text:
        try:
            shapes.append(_special(text) or _listing(tokenize(text)))
        except UnreadableError:
            return ()
    return tuple(shapes)


def real_value(text: str) -> float | None:
    """Value of a normalized text that is one real number; None where it is anything else."""
    shapes = read_answer(text)
    shape = shapes[0] if len(shapes) == 1 else None
    return shape.formula.real() if isinstance(shape, Scalar) else None


def _formula(number: PlainNumber) -> Formula:
    value = number.value
    exact = value.numerator if value.denominator == 1 else value
    return Formula(Number(exact, number.decimal))


def _special(text: str) -> Shape | None:
    """What is recognized before any token: words, numbers with a base, a scalar with a unit."""
    if match := _BASE_NUMBER.fullmatch(text):
        return BaseNumber(match[1].lstrip("0") or "0", int(match[2] or match[3]))
    if _WORDS.fullmatch(text) and (words := _words(text)):
        return words
    quantity = split_unit(text)
    return None if quantity.number == text else _scalar_with_unit(quantity)


def _words(text: str) -> Words | None:
    tokens = tokenize(text)
    if any(token.kind is not Kind.LETTER for token in tokens):  # `sin x`, `pi r`, `x or y`
        return None
    letters = "".join(token.text for token in tokens)
    short = len(letters) <= MAX_PRODUCT_LETTERS
    return Words(text, read_formula(tokens) if short else None)


def _scalar_with_unit(quantity: Quantity) -> Shape:
    number = plain_number(quantity.number)
    shape = _listing(tokenize(quantity.number)) if number is None else Scalar(_formula(number))
    if not isinstance(shape, Scalar):
        if quantity.unit or quantity.scale != 1:
            raise UnreadableError
        return shape
    tree = shape.formula.tree
    if quantity.scale != 1:
        tree = Operation("*", (tree, Number(quantity.scale)))
    if quantity.unit in ("%", "°"):
        return Scalar(Formula(Operation(quantity.unit, (tree,))))
    return Scalar(Formula(tree), quantity.unit)


def _listing(tokens: Sequence[Token]) -> Shape:
    parts = _split(tokens, lambda token: token.text in ("or", "and", ",", ";"))
    if len(parts) == 1:
        return _plus_minus(tokens)
    parts = [part for part in parts if part]  # `1, 2, and 3`
    shapes = tuple(_plus_minus(part) for part in parts)
    if all(isinstance(shape, Region) for shape in shapes) and any(t.text == "or" for t in tokens):
        return Region(
            tuple(i for shape in shapes if isinstance(shape, Region) for i in shape.intervals)
        )
    if any(isinstance(shape, (Region, Ratio, Matrix)) for shape in shapes):
        # `x>1, x<3` may mean both or either.
        intervals = [s for s in shapes if isinstance(s, Region) and not s.name]
        if len(intervals) != len(shapes):
            raise UnreadableError
    return Listing(_flat(shapes))


def _flat(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    flat = [
        s for shape in shapes for s in (shape.items if isinstance(shape, Listing) else (shape,))
    ]
    if not 1 < len(flat) <= MAX_ITEMS:
        raise UnreadableError
    return tuple(flat)


def _plus_minus(tokens: Sequence[Token]) -> Shape:
    r"""`a \pm b` is the two answers a+b and a-b."""
    signs = [index for index, token in enumerate(tokens) if token.text == "±"]
    if not signs:
        return _relation(tokens)
    if len(signs) > 1:
        raise UnreadableError
    variants = []
    for sign in "+-":
        replaced = list(tokens)
        replaced[signs[0]] = Token(Kind.SYMBOL, sign)
        variants.append(_relation(replaced))
    return Listing(tuple(variants))


def _relation(tokens: Sequence[Token]) -> Shape:
    parts = _split(tokens, lambda token: token.text in _RELATIONS)
    if len(parts) == 1:
        return _region_or_value(tokens)
    used = [token.text for token in _top_level(tokens) if token.text in _RELATIONS]
    if used == ["="]:
        return Equation(read_formula(parts[0]), read_formula(parts[1]))
    if used == ["in"]:
        name = read_formula(parts[0]).tree
        region = _as_region(_region_or_value(parts[1]))
        if not isinstance(name, Name):
            raise UnreadableError
        return region if isinstance(region, Set) else Region(region.intervals, name.text)
    if "=" in used or "in" in used:
        raise UnreadableError
    return from_chain([read_formula(part) for part in parts], used)


def _region_or_value(tokens: Sequence[Token]) -> Shape:
    operators = [t.text for t in _top_level(tokens) if t.text in ("cup", "setminus")]
    if not operators:
        return _value(tokens)
    parts = _split(tokens, lambda token: token.text in ("cup", "setminus"))
    regions = [_as_region(_value(part)) for part in parts]
    return from_operators(regions, operators)


def _as_region(shape: Shape) -> Region | Set:
    """What may stand beside a set operator."""
    if isinstance(shape, (Region, Set)):
        return shape
    region = open_interval(shape)
    if region is None:
        raise UnreadableError
    return region


def open_interval(shape: Shape) -> Region | None:
    """A pair in round brackets, read as an open interval; None for any other shape."""
    if not isinstance(shape, Tuple) or len(shape.items) != 2:
        return None
    low, high = shape.items
    if not isinstance(low, Scalar) or not isinstance(high, Scalar):
        return None
    return Region((Interval(low.formula, high.formula, False, False),))


def _value(tokens: Sequence[Token]) -> Shape:
    if not tokens:
        raise UnreadableError
    first, last = tokens[0], tokens[-1]
    if first.kind is Kind.FIELD and len(tokens) == 1 and first.text == "R":
        return Region((Interval(MINUS_INFINITY, INFINITY, False, False),))
    if first.text == "emptyset" and len(tokens) == 1:
        return Set(())
    if first.kind is Kind.MATRIX:
        return _matrix(tokens)
    if first.text in _OPENING and last.text in _CLOSING and _is_one_bracket(tokens):
        bracketed = _bracketed(tokens)
        if bracketed is not None:
            return bracketed
    parts = _split(tokens, lambda token: token.text == ":")
    if len(parts) > 1:
        return Ratio(tuple(map(read_formula, parts)))
    return Scalar(read_formula(tokens))


def _bracketed(tokens: Sequence[Token]) -> Shape | None:
    """A tuple, set or interval; None for brackets around one scalar."""
    opening, closing, inner = tokens[0].text, tokens[-1].text, tokens[1:-1]
    parts = _split(inner, lambda token: token.text == ",")
    if opening == r"\{" and closing == r"\}":
        return Set(() if not inner else _items(parts))
    if len(parts) == 1:
        return None
    if len(parts) == 2 and opening + closing in ("[]", "[)", "(]"):
        low, high = map(read_formula, parts)
        return Region((Interval(low, high, opening == "[", closing == "]"),))
    return Tuple(_items(parts)) if opening + closing in ("()", "[]") else None


def _items(parts: Sequence[Sequence[Token]]) -> tuple[Shape, ...]:
    if len(parts) > MAX_ITEMS:
        raise UnreadableError
    items: list[Shape] = []
    for part in parts:
        item = _plus_minus(part)
        items += item.items if isinstance(item, Listing) else (item,)
    return tuple(items)


def _matrix(tokens: Sequence[Token]) -> Matrix:
    if tokens[-1] != Token(Kind.MATRIX, "end", tokens[-1].spaced) or len(tokens) < 3:
        raise UnreadableError
    rows = _split(tokens[1:-1], lambda token: token.text == r"\\")
    if not rows[-1]:  # a `\\` behind the last row
        rows.pop()
    cells = [_split(row, lambda token: token.text == "&") for row in rows]
    if len({len(row) for row in cells}) != 1 or len(cells) * len(cells[0]) > MAX_ITEMS:
        raise UnreadableError
    return Matrix(tuple(tuple(map(read_formula, row)) for row in cells))


def _top_level(tokens: Sequence[Token]) -> Iterable[Token]:
    """Tokens outside all brackets."""
    depth = 0
    for token in tokens:
        depth -= token.text in _CLOSING
        if depth == 0:
            yield token
        depth += token.text in _OPENING


def _split(tokens: Sequence[Token], separates: Callable[[Token], bool]) -> list[Sequence[Token]]:
    """Parts between separators outside all brackets; brackets need not match in kind."""
    parts: list[Sequence[Token]] = []
    depth = start = 0
    for index, token in enumerate(tokens):
        if token.kind is not Kind.SYMBOL:
            continue
        if token.text in _OPENING:
            depth += 1
        elif token.text in _CLOSING:
            depth -= 1
        elif depth == 0 and separates(token):
            parts.append(tokens[start:index])
            start = index + 1
    parts.append(tokens[start:])
    return parts


def _is_one_bracket(tokens: Sequence[Token]) -> bool:
    """Does the first bracket close with the last token?"""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if depth == 0:
            return index == len(tokens) - 1
    return False
