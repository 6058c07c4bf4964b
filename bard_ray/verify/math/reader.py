r"""Parser from the text of an answer to its shapes (see `bard_ray.verify.math.structure`).

An answer is split into the parts of a list, each part into the sides of a chain of equalities, and
each side is read as a term. Named parts become records: `x=1,y=2`, `p=5,q=2;p=7,q=2`,
`(x,y)=(5,8)\text{ or }(8,5)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from bard_ray.verify.math.chain import read_chain
from bard_ray.verify.math.expression import Name
from bard_ray.verify.math.formula import Formula
from bard_ray.verify.math.names import canonical, is_name
from bard_ray.verify.math.rational import plain_number
from bard_ray.verify.math.split import Part, chain_sides, joined_digits, list_parts
from bard_ray.verify.math.structure import (
    Contradiction,
    Equation,
    Left,
    Listing,
    Matrix,
    Ratio,
    Record,
    Region,
    Scalar,
    Set,
    Shape,
    Tuple,
)
from bard_ray.verify.math.terms import MAX_ITEMS, plain_scalar, read_term
from bard_ray.verify.math.tokens import UnreadableError

MAX_CHARS = 600
_GOLDS_REMEMBERED = 2048
# `, k \in \mathbb{Z}` after a general solution is redundant.
_QUALIFIER = re.compile(
    r"[,(]?(?:\\text\{ ?(?:for|where) ?\})?[kmnl]\\in ?\\mathbb(?:\{Z\}| ?Z)\)?$"
)
_QUALIFIER_START = r"\mathbb"
_TUPLE = re.compile(r"\((.+)\)|\\langle ?(.+)\\rangle")
_LEADING_ZERO = re.compile(r",0")  # `1,000` cannot be a list of answers, `100,200` can
# Numbered solutions: `x_1=2,x_2=3` are the solutions 2 and 3.
_NUMBERED = re.compile(r"([xzt]|\\lambda)_([1-9])")


@lru_cache(_GOLDS_REMEMBERED)
def read_gold(text: str) -> tuple[Shape, ...]:
    """Shapes of a gold answer, like `read_answer`; cached, because rollouts share golds.

    A comma is a decimal point only if it cannot separate two answers. A gold answer that
    contradicts itself has no shape.
    """
    return tuple(s for s in _read(text, is_gold=True) if not isinstance(s, Contradiction))


def read_answer(text: str) -> tuple[Shape, ...]:
    """Possible shapes of a normalized answer.

    Args:
        text: result of `bard_ray.verify.math.normalize.normalize`.

    Returns:
        One shape; more if a comma may separate thousands, answers or decimal places; none if the
        text is outside the grammar.
    """
    return _read(text, is_gold=False)


def _read(text: str, is_gold: bool) -> tuple[Shape, ...]:
    if len(text) > MAX_CHARS:
        return ()
    if _QUALIFIER_START in text:
        text = _QUALIFIER.sub("", text)
    number = plain_number(text)
    if number is not None and "," not in text:
        return (plain_scalar(number),)
    variants = [text] if number is None or not _LEADING_ZERO.search(text) else []
    if "," in text:
        variants += joined_digits(text, no_list=is_gold)
    return tuple(shape for variant in variants if (shape := _read_list(variant)) is not None)


def _read_list(text: str) -> Shape | None:
    """Shape of one reading of the text; None if it is outside the grammar."""
    parts = list_parts(text)
    try:
        shapes = [_read_part(part.text) for part in parts]
        return shapes[0] if len(shapes) == 1 else _joined(shapes, parts)
    except UnreadableError:
        return None


def _read_part(text: str) -> Shape:
    sides = chain_sides(text)
    if len(sides) == 1:
        return read_term(text)
    shape = read_chain(sides)
    if not isinstance(shape, Equation):
        return shape
    return shape.right if _is_bracket_of_letters(shape) else _spread(shape)


def _spread(equation: Equation) -> Shape:
    r"""Expand `x=\pm3` to two equations, and `(x,y)=(1,2)` to one value for each of two names."""
    left, right = equation.left, equation.right
    if isinstance(right, Listing):
        return Listing(tuple(_spread(Equation(left, item)) for item in right.items))
    names = _names_of_tuple(left.text)
    if not names or not isinstance(right, Tuple) or len(names) != len(right.items):
        return equation
    fields = zip(names, right.items, strict=True)
    return Record(tuple(Equation(Left(name, None, True), item) for name, item in fields), True)


def _is_bracket_of_letters(equation: Equation) -> bool:
    r"""Is the left side a name in pieces? `\{x,y\}=\{2,3\}`, a matrix of x and y in their order."""
    text, right = equation.left.text, equation.right
    if not isinstance(right, (Set, Matrix)) or not text.startswith((r"\{", r"\begin")):
        return False
    left = read_term(text)
    letters = [cell.tree.text for cell in _cells(left) if isinstance(cell.tree, Name)]
    fits = type(left) is type(right) and _size(left) == _size(right)
    in_order = letters if isinstance(left, Set) else sorted(letters)
    distinct = len(set(letters)) == len(_cells(left))
    return fits and distinct and letters == in_order


def _cells(shape: Shape) -> list[Formula]:
    """Scalars of a set or matrix."""
    if isinstance(shape, Matrix):
        return [cell for row in shape.rows for cell in row]
    items = shape.items if isinstance(shape, Set) else ()
    return [item.formula for item in items if isinstance(item, Scalar)]


def _size(shape: Shape) -> tuple[int, int]:
    if isinstance(shape, Matrix):
        return len(shape.rows), len(shape.rows[0])
    return (1, len(shape.items)) if isinstance(shape, Set) else (0, 0)


def _names_of_tuple(text: str) -> list[str]:
    match = _TUPLE.fullmatch(text)
    names = [part.text for part in list_parts(match[1] or match[2])] if match else []
    return names if len(names) > 1 and len(set(names)) > 1 and all(map(is_name, names)) else []


def _joined(shapes: Sequence[Shape], parts: Sequence[Part]) -> Shape:
    """Combine a list of shapes into one."""
    if not 1 < len(shapes) <= MAX_ITEMS:
        raise UnreadableError
    if any(isinstance(shape, Contradiction) for shape in shapes):
        return Contradiction()
    separators = [part.separator for part in parts]
    if all(isinstance(shape, Region) for shape in shapes) and "or" in separators:
        return Region(tuple(i for s in shapes if isinstance(s, Region) for i in s.intervals))
    _require_listable(shapes)
    shapes = _with_shared_name(shapes)
    return _records(shapes, separators) or Listing(_flat(shapes))


def _require_listable(shapes: Iterable[Shape]) -> None:
    """Reject lists that may mean "and" or "or": `x>1, x<3`."""
    for shape in shapes:
        if isinstance(shape, (Ratio, Matrix)) or (isinstance(shape, Region) and shape.name):
            raise UnreadableError


def _with_shared_name(shapes: Sequence[Shape]) -> Sequence[Shape]:
    r"""Apply a name to all values: `a=4,-8`, `(x,y)=(5,8)\text{ or }(8,5)`."""
    first, *others = shapes
    if any(isinstance(shape, (Equation, Record)) for shape in others):
        return shapes
    if isinstance(first, Equation) and first.left.names:
        return [first, *(_spread(Equation(first.left, other)) for other in others)]
    if isinstance(first, Record):
        return [first, *(_as_record(first, other) for other in others)]
    return shapes


def _as_record(model: Record, shape: Shape) -> Record:
    if not isinstance(shape, Tuple) or len(shape.items) != len(model.fields):
        raise UnreadableError
    fields = zip(model.fields, shape.items, strict=True)
    return Record(tuple(Equation(field.left, item) for field, item in fields), ordered=True)


def _records(shapes: Sequence[Shape], separators: Sequence[str]) -> Shape | None:
    """Group equations whose names repeat in turn into records, one per solution.

    None for anything else, including an "or" between two names of one solution.
    """
    equations = [shape for shape in shapes if isinstance(shape, Equation) and shape.left.names]
    names = [canonical(equation.left.text) for equation in equations]
    size = len(set(names))
    if len(equations) != len(shapes) or size < 2 or names != names[:size] * (len(names) // size):
        return None
    if numbered := _numbered(equations, names):
        return numbered
    if any(s == "or" for index, s in enumerate(separators) if index % size):
        return None
    starts = range(0, len(names), size)
    records = tuple(Record(tuple(equations[start : start + size])) for start in starts)
    return records[0] if len(records) == 1 else Listing(records)


def _numbered(equations: Sequence[Equation], names: Sequence[str]) -> Listing | None:
    """Solutions numbered from 1 as a list of equations of one variable, in any order."""
    matches = [match for match in map(_NUMBERED.fullmatch, names) if match]
    numbers = [int(match[2]) for match in matches]
    if numbers != list(range(1, len(names) + 1)) or len({match[1] for match in matches}) > 1:
        return None
    left = Left(matches[0][1], None, True)
    return Listing(tuple(Equation(left, equation.right) for equation in equations))


def _flat(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    flat = [
        s for shape in shapes for s in (shape.items if isinstance(shape, Listing) else (shape,))
    ]
    if len(flat) > MAX_ITEMS:
        raise UnreadableError
    return tuple(flat)
