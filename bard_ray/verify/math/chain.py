r"""Chains of equalities: `x=2\cdot3=6` names the value 6, `x=3=5` offers two values.

The rule does not depend on the gold answer. Sides without variables are evaluated and must have one
value, else the chain is a contradiction; variables that cancel do not count (`x-x+5`). Sides with
variables before the last one are formulas that were evaluated (`A=\pi r^2=9\pi`): they may hold
neither the name (`x=x+1=6`) nor a number that is added (`x=5+y=6`). A side after \approx must be
within one percent of the value before it, and is dropped; with no value before it, it is the value.
"""

from __future__ import annotations

from collections.abc import Sequence

from bard_ray.verify.math.expression import Name
from bard_ray.verify.math.formula import Formula, same_value
from bard_ray.verify.math.names import denies, is_name, is_sum_of_names, is_variable
from bard_ray.verify.math.split import ROUNDED, Part
from bard_ray.verify.math.structure import (
    Contradiction,
    Equation,
    Left,
    Listing,
    Scalar,
    Shape,
    Words,
)
from bard_ray.verify.math.terms import read_term
from bard_ray.verify.math.tokens import UnreadableError

MAX_SIDES = 12
_ZERO = 1e-12
_CLOSE = 0.01  # relative, of the values before and after \approx


def read_chain(sides: Sequence[Part]) -> Shape:
    """Shape of a chain of two sides or more.

    Raises:
        UnreadableError: a side is outside the grammar, or it is not clear whether two are equal.
    """
    if len(sides) > MAX_SIDES:
        raise UnreadableError
    if is_variable(sides[-1].text) and not is_name(sides[0].text):  # `6=x`
        sides = [sides[-1], *sides[:-1]]
    left, first = _left_side(sides[0].text)
    if len(left.text) > 1 and any(left.text in side.text for side in sides[1:-1]):  # `AB=AB+1=6`
        return Contradiction()
    values: list[Shape] = [] if first is None else [first]
    for side in sides[1:]:
        shape = read_term(side.text)
        if first:
            shape = _as_product(shape)
        exact = _closed(values) if side.separator == ROUNDED else []
        if not exact:
            values.append(shape)
        elif not _is_close(exact[-1], shape):
            return Contradiction()
    return _settled(left, first, values)


def left_side(text: str) -> Left:
    """The first side of a chain."""
    return _left_side(text)[0]


def may_be_asked(left: Left) -> bool:
    r"""May a question ask for the value of this left side? `x`, `m+n`, `f(1)+f(2)`.

    Not of what cannot be read (`5\ne x`), has a value of its own (`3`, `x-x`), or determines one
    variable (`2x=10` answers `x=5`).
    """
    if left.names:
        return True
    if left.formula is None:
        return is_sum_of_names(left.text)
    return left.formula.varies and not left.formula.is_linear


def _left_side(text: str) -> tuple[Left, Scalar | None]:
    """The first side, and its value unless it is a name."""
    names = is_name(text)
    if not names and denies(text):
        return Left(text, None, names), None
    try:
        shape = _as_product(read_term(text))
    except UnreadableError:
        return Left(text, None, names), None
    if not isinstance(shape, Scalar):
        return Left(text, None, names), None
    if not names or _is_computed(shape.formula):
        return Left(text, shape.formula, names=False), shape
    # `AB` is not a product if it names a segment, nor is \frac{dy}{dx} a quotient of products.
    return Left(text, shape.formula if is_variable(text) else None, names), None


def _is_computed(formula: Formula) -> bool:
    r"""Whether it is a constant to be computed: `\sin 30^\circ` is one, `e` may be a name."""
    return not formula.varies and not isinstance(formula.tree, Name)


def _as_product(shape: Shape) -> Shape:
    """Read letters beside a value as a product: `xy=6`, `6=xy`; after a name they may be a word."""
    return Scalar(shape.product) if isinstance(shape, Words) and shape.product else shape


def _settled(left: Left, first: Scalar | None, values: Sequence[Shape]) -> Shape:
    """The shape of a chain: a value, an equation, or a contradiction.

    `values` begins with `first`, the left side, unless that names a value.
    """
    closed, last = _closed(values), values[-1]
    if any(not _same(shape, closed[-1]) for shape in closed[:-1]):
        return Contradiction()
    if closed and not all(_was_evaluated(left, first, shape) for shape in values[:-1]):
        return Contradiction()
    if not closed:
        return _without_values(left, first, values)
    if last is closed[-1]:
        return last if first is closed[0] else Equation(left, last)
    if first and len(values) == 2:  # `7=11a+c`
        return Equation(left, last)
    raise UnreadableError


def _was_evaluated(left: Left, first: Scalar | None, shape: Shape) -> bool:
    """May a side before the last one be a formula for the left side?"""
    if isinstance(shape, Listing):
        return all(_was_evaluated(left, first, item) for item in shape.items)
    if shape is first or not isinstance(shape, Scalar) or not _has_variable(shape):
        return True
    if left.variables & shape.formula.variables:
        return first is not None and _same(first, shape)  # `(x+1)^2=x^2+2x+1=16`
    return not shape.formula.adds_number


def _without_values(left: Left, first: Scalar | None, values: Sequence[Shape]) -> Shape:
    """Sides with variables only: `y=2x`, `f(x)=(x+1)^2=x^2+2x+1`, `x+y=2z`."""
    last = values[-1]
    if any(not _same(shape, last) for shape in values[:-1] if shape is not first):
        return Contradiction()
    return last if first and _formulas_same(first, last) else Equation(left, last)


def _closed(values: Sequence[Shape]) -> list[Shape]:
    """The shapes that have one value whatever their variables are."""
    return [value for value in values if not _has_variable(value)]


def _has_variable(shape: Shape) -> bool:
    if isinstance(shape, Listing):  # `\frac{-b\pm\sqrt{D}}{2a}`
        return any(map(_has_variable, shape.items))
    return isinstance(shape, Scalar) and shape.formula.varies


def _same(a: Shape, b: Shape) -> bool:
    same = _formulas_same(a, b)
    if same is None and not _is_zero(a, b):
        raise UnreadableError
    return same is not False


def _formulas_same(a: Shape, b: Shape) -> bool | None:
    if not isinstance(a, Scalar) or not isinstance(b, Scalar):
        return True if a == b else None
    return same_value(a.formula, b.formula)


def _is_zero(a: Shape, b: Shape) -> bool:
    r"""Whether both are zero within float precision: `\cos\frac{\pi}{2}=0`."""
    formulas = [shape.formula for shape in (a, b) if isinstance(shape, Scalar)]
    return len(formulas) == 2 and all(abs(_real(formula)) < _ZERO for formula in formulas)


def _is_close(exact: Shape, rounded: Shape) -> bool:
    if not isinstance(exact, Scalar) or not isinstance(rounded, Scalar):
        raise UnreadableError
    a, b = _real(exact.formula), _real(rounded.formula)
    return abs(a - b) <= _CLOSE * abs(a)


def _real(formula: Formula) -> float:
    value = formula.real()
    if value is None:
        raise UnreadableError
    return value
