r"""Parser from a text without separators and equalities at its top level to its shape.

The text is a number, a word or a scalar with a unit; otherwise its tokens are split at relations,
then at set operators. The remainder is a bracket around a list, a matrix, or a scalar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bard_ray.verify.math.expression import Name, Number, Operation
from bard_ray.verify.math.formula import Formula, read_formula
from bard_ray.verify.math.normalize import WHOLE_TEXT
from bard_ray.verify.math.rational import PlainNumber, plain_number
from bard_ray.verify.math.regions import INFINITY, MINUS_INFINITY, from_chain, from_operators
from bard_ray.verify.math.structure import (
    BaseNumber,
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

MAX_ITEMS = 64
MAX_PRODUCT_LETTERS = 6
_OPENING, _CLOSING = frozenset(("(", "[", "{", r"\{")), frozenset((")", "]", "}", r"\}"))
_RELATIONS = frozenset(("=", "<", ">", "<=", ">=", "!=", "in"))
_SEPARATORS = frozenset((",", ";"))
_BASE_NUMBER = re.compile(r"([0-9]+)_(?:\{([0-9]{1,2})\}|([0-9]{1,2}))")
_WORDS = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]+)*|[A-Za-z](?: [A-Za-z]+)* [A-Za-z]{3,}")


def read_term(text: str) -> Shape:
    """Shape of a part of an answer that is neither a list nor an equation.

    Raises:
        UnreadableError: the text is outside the grammar.
    """
    if match := WHOLE_TEXT.fullmatch(text):
        text = match[1].strip()
    number = plain_number(text)
    if number is not None:
        return plain_scalar(number)
    if match := _BASE_NUMBER.fullmatch(text):
        return BaseNumber(match[1].lstrip("0") or "0", int(match[2] or match[3]))
    if _WORDS.fullmatch(text) and (words := _words(text)):
        return words
    quantity = split_unit(text)
    return _plus_minus(tokenize(text)) if quantity.number == text else _with_unit(quantity)


def plain_scalar(number: PlainNumber) -> Scalar:
    """The shape of a plain number."""
    value = number.value
    exact = value.numerator if value.denominator == 1 else value
    return Scalar(Formula(Number(exact, number.decimal)))


def open_interval(shape: Shape) -> Region | None:
    """A pair in round brackets, read as an open interval; None for any other shape."""
    if not isinstance(shape, Tuple) or len(shape.items) != 2:
        return None
    low, high = shape.items
    if not isinstance(low, Scalar) or not isinstance(high, Scalar):
        return None
    return Region((Interval(low.formula, high.formula, False, False),))


def _words(text: str) -> Words | None:
    tokens = tokenize(text)
    if any(token.kind is not Kind.LETTER for token in tokens):  # `sin x`, `pi r`
        return None
    letters = "".join(token.text for token in tokens)
    short = len(letters) <= MAX_PRODUCT_LETTERS
    return Words(text, read_formula(tokens) if short else None)


def _with_unit(quantity: Quantity) -> Shape:
    number = plain_number(quantity.number)
    shape = _plus_minus(tokenize(quantity.number)) if number is None else plain_scalar(number)
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


def _plus_minus(tokens: Sequence[Token]) -> Shape:
    r"""Expand `a \pm b` to the two answers a+b and a-b; in a set, to two elements."""
    signs = [index for index, token in enumerate(tokens) if token.text == "±"]
    if not signs or (tokens[0].text == r"\{" and _is_one_bracket(tokens)):
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
    parts = _split(tokens, _RELATIONS)
    if len(parts) == 1:
        return _region_or_value(tokens)
    used = [token.text for token in _top_level(tokens) if token.text in _RELATIONS]
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
    parts = _split(tokens, frozenset(("cup", "setminus")))
    regions = [_as_region(_value(part)) for part in parts]
    return from_operators(regions, operators)


def _as_region(shape: Shape) -> Region | Set:
    """Convert a shape to an operand of a set operator."""
    if isinstance(shape, (Region, Set)):
        return shape
    region = open_interval(shape)
    if region is None:
        raise UnreadableError
    return region


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
    parts = _split(tokens, frozenset((":",)))
    if len(parts) > 1:
        return Ratio(tuple(map(read_formula, parts)))
    return Scalar(read_formula(tokens))


def _bracketed(tokens: Sequence[Token]) -> Shape | None:
    """A tuple, set or interval; None for brackets around one scalar."""
    kind, inner = tokens[0].text + tokens[-1].text, tokens[1:-1]
    parts = _split(inner, _SEPARATORS)
    if kind == r"\{\}":
        return Set(() if not inner else _items(parts))
    if len(parts) == 1:
        return None
    if len(parts) == 2 and kind in ("[]", "[)", "(]"):
        low, high = map(read_formula, parts)
        return Region((Interval(low, high, kind[0] == "[", kind[1] == "]"),))
    if kind == "{}":
        return Set(_items(parts))
    return Tuple(_items(parts)) if kind in ("()", "[]") else None


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
    rows = _split(tokens[1:-1], frozenset((r"\\",)))
    if not rows[-1]:  # a `\\` after the last row
        rows.pop()
    cells = [_split(row, frozenset(("&",))) for row in rows]
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


def _split(tokens: Sequence[Token], separators: frozenset[str]) -> list[Sequence[Token]]:
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
        elif depth == 0 and token.text in separators:
            parts.append(tokens[start:index])
            start = index + 1
    parts.append(tokens[start:])
    return parts


def _is_one_bracket(tokens: Sequence[Token]) -> bool:
    """Whether the first bracket closes with the last token."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if depth == 0:
            return index == len(tokens) - 1
    return False
