r"""Equivalence of equations: the differences of their sides must be proportional.

`2x-2y=2` is `x-y=1`. Denominators are cleared first, so that `\frac{y-1}{x-3}=2` is `y=2x-5`; the
point that the denominator excludes is ignored.
"""

from __future__ import annotations

from bard_ray.verify.math.expression import Expression, Name, Number, Operation
from bard_ray.verify.math.formula import Formula, same_number

MAX_NESTED = 4  # fractions in fractions that are cleared
MAX_NODES = 1500  # of a cleared formula
_ONE = Number(1)

_Quotient = tuple[Expression, Expression]


def same_equation(a: tuple[Formula, Formula], b: tuple[Formula, Formula]) -> bool | None:
    """Whether two equations, each a left and a right side, are equivalent.

    Returns:
        True: one is a constant multiple of the other. False: the ratio clearly varies. None:
        anything else, which includes every equation that holds at one of the sample points.
    """
    return _proportional(_cleared_difference(*a), _cleared_difference(*b))


def _proportional(a: Expression, b: Expression) -> bool | None:
    first, *others = Formula(Operation("/", (a, b))).samples
    if first is None or first.value == 0:
        return None
    same = [None if s is None else same_number(s.value, first.value) for s in others]
    if all(same):
        return True
    return False if False in same else None


def _cleared_difference(left: Formula, right: Formula) -> Expression:
    difference = Operation("+", (left.tree, Operation("neg", (right.tree,))))
    cleared = _cleared(difference, MAX_NESTED)[0]
    return cleared if _nodes(cleared) <= MAX_NODES else difference


def _cleared(tree: Expression, nested: int) -> _Quotient:
    """Numerator and denominator of a rational formula; any other formula over one."""
    if not isinstance(tree, Operation) or tree.name not in _RULES or not nested:
        return tree, _ONE
    if not any(map(_has_variable, tree.arguments)):
        return tree, _ONE
    left = nested - (tree.name == "/")
    return _RULES[tree.name]([_cleared(argument, left) for argument in tree.arguments])


def _sum(terms: list[_Quotient]) -> _Quotient:
    top, bottom = terms[0]
    for n, d in terms[1:]:
        if d == bottom:
            top = Operation("+", (top, n))
        else:
            top = Operation("+", (_product(top, d), _product(n, bottom)))
            bottom = _product(bottom, d)
    return top, bottom


def _negated(terms: list[_Quotient]) -> _Quotient:
    ((top, bottom),) = terms
    return Operation("neg", (top,)), bottom


def _multiplied(terms: list[_Quotient]) -> _Quotient:
    (a, b), (c, d) = terms
    return _product(a, c), _product(b, d)


def _divided(terms: list[_Quotient]) -> _Quotient:
    (a, b), (c, d) = terms
    return _product(a, d), _product(b, c)


def _product(a: Expression, b: Expression) -> Expression:
    if a == _ONE or b == _ONE:
        return b if a == _ONE else a
    return Operation("*", (a, b))


def _has_variable(tree: Expression) -> bool:
    if isinstance(tree, Operation):
        return any(map(_has_variable, tree.arguments))
    return isinstance(tree, Name) and not tree.constant


def _nodes(tree: Expression) -> int:
    if isinstance(tree, Operation):
        return 1 + sum(map(_nodes, tree.arguments))
    return 1


_RULES = {"+": _sum, "neg": _negated, "*": _multiplied, "/": _divided}
