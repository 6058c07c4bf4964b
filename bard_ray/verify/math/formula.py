r"""Scalar answers as formulas, and the comparison of their values.

Formulas are compared at fixed points: variables take three sets of positive values, on both sides
of 1, so that `\sqrt{1/n}` equals `1/\sqrt{n}`, and one set of negative values, so that `|x|` is not
taken for `x`. Rational formulas are evaluated exactly there; others with an error bound.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import isfinite

from bard_ray.verify.math.evaluate import Approx, Evaluator, NoValueError, UndefinedError, Value
from bard_ray.verify.math.expression import Expression, Name, Number, Operation, read_expression
from bard_ray.verify.math.rational import same_decimal
from bard_ray.verify.math.tokens import Token

POSITIVE_POINTS = 3
_LARGE = 1e100
SAME = 1e-9  # required relative agreement of floats


@dataclass(frozen=True, slots=True)
class Sample:
    """Value at one point, and whether it depends on a choice of branch."""

    value: Value
    delicate: bool


@dataclass(frozen=True)
class Formula:
    """A scalar expression; its values are cached, because a gold answer is compared often."""

    tree: Expression

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names of its variables."""
        return frozenset(_variables(self.tree))

    @cached_property
    def varies(self) -> bool:
        """Does it depend on its variables, as far as the points tell? `x-x+5` does not."""
        if not self.variables or isinstance(self.tree, Name):
            return bool(self.variables)
        first, *others = self.samples
        if first is None:
            return True
        return any(s is None or not same_number(s.value, first.value) for s in others)

    @cached_property
    def is_linear(self) -> bool:
        """Is it of degree one in one variable, but not the variable itself? `2x`, `x+1`, `x/2`."""
        if len(self.variables) != 1 or isinstance(self.tree, Name) or not self.varies:
            return False
        if isinstance(self.tree, Operation) and self.tree.name == "^":  # `C_5^1`
            return False
        points = [_point(index, self.variables) for index in range(len(self.samples))]
        xs = [float(value) for point in points for value in point.values()]
        ys = [_as_float(sample.value)[0] for sample in self.samples if sample]
        # Beyond these bounds, the products of differences may overflow.
        small = all(max(abs(y.real), abs(y.imag)) < _LARGE for y in ys)
        return small and len(xs) == len(ys) and _on_one_line(xs, ys)

    @property
    def adds_number(self) -> bool:
        """Is it a sum of variables and a number other than zero, such as `5+y`?"""
        if not isinstance(self.tree, Operation) or self.tree.name != "+":
            return False
        numbers = [Formula(term) for term in self.tree.arguments if not _variables(term)]
        return 0 < len(numbers) < len(self.tree.arguments) and any(n.real() != 0 for n in numbers)

    @cached_property
    def decimal(self) -> bool:
        """Whether it contains a number written with a decimal point."""
        return _any_decimal(self.tree)

    @cached_property
    def has_pi(self) -> bool:
        """Whether it contains the constant pi."""
        return _holds_pi(self.tree)

    @cached_property
    def samples(self) -> tuple[Sample | None, ...]:
        """Values at the points, one without variables; None for a point without a value."""
        count = POSITIVE_POINTS + 1 if self.variables else 1
        return tuple(_sample(self.tree, _point(index, self.variables)) for index in range(count))

    @property
    def undefined(self) -> bool:
        """Whether it has no value by definition, whatever its variables: `0/0`, `0/(x-x)`."""
        if self.infinity:
            return False
        points = range(POSITIVE_POINTS if self.variables else 1)
        return all(_is_undefined(self.tree, _point(index, self.variables)) for index in points)

    @property
    def infinity(self) -> int:
        """1 or -1 for plus or minus infinity, else 0."""
        negative = isinstance(self.tree, Operation) and self.tree.name == "neg"
        inner = (
            self.tree.arguments[0] if isinstance(self.tree, Operation) and negative else self.tree
        )
        return (-1 if negative else 1) if inner == _INFINITY else 0

    @property
    def mark(self) -> str:
        """`%` or `°` if it applies to the whole formula, else empty."""
        marked = isinstance(self.tree, Operation) and self.tree.name in ("%", "°")
        return self.tree.name if isinstance(self.tree, Operation) and marked else ""

    @cached_property
    def unmarked(self) -> Formula:
        """The formula without its `%` or `°`."""
        return Formula(self.tree.arguments[0]) if isinstance(self.tree, Operation) else self

    def renamed(self, name: str) -> Formula:
        """The formula with every variable renamed to `name`."""
        return Formula(_renamed(self.tree, name))

    def real(self) -> float | None:
        """Its value as a float; None if it varies, is complex, or is undefined."""
        if self.infinity:
            return self.infinity * float("inf")
        sample = None if self.variables else self.samples[0]
        if sample is None:
            return None
        value = sample.value.value if isinstance(sample.value, Approx) else sample.value
        return None if isinstance(value, complex) else float(value)


_INFINITY = Name("infty", constant=True)


def read_formula(tokens: Sequence[Token]) -> Formula:
    """Parse all tokens as one formula.

    Raises:
        UnreadableError: the tokens are not a formula.
    """
    return Formula(read_expression(tokens))


def same_value(a: Formula, b: Formula) -> bool | None:
    """Whether two formulas have the same value everywhere.

    Returns:
        True: they agree at every point. False: they clearly differ at a positive point where no
        branch was chosen. None: anything else.
    """
    if a.tree == b.tree:
        return True
    if a.infinity or b.infinity:
        return a.infinity == b.infinity if _has_value(a) and _has_value(b) else None
    verdicts = []
    for index in range(max(len(a.samples), len(b.samples))):
        x, y = a.samples[index % len(a.samples)], b.samples[index % len(b.samples)]
        same = None if x is None or y is None else same_number(x.value, y.value)
        delicate = x is None or y is None or x.delicate or y.delicate
        if same is False and not delicate and index < POSITIVE_POINTS:
            return _as_decimals(a, b)
        verdicts.append(True if delicate and index == POSITIVE_POINTS else same)
    return True if all(verdicts) else None


def same_number(a: Value, b: Value) -> bool | None:
    """Compare two values: equal within their error bounds, clearly different, or undecided."""
    if not isinstance(a, Approx) and not isinstance(b, Approx):
        return a == b
    (x, x_error), (y, y_error) = _as_float(a), _as_float(b)
    difference, error = abs(x - y), 10 * (x_error + y_error)
    scale = SAME * max(abs(x), abs(y))
    if difference <= error:
        return True if error <= scale else None
    return False if difference > scale and difference > 10 * error else None


def _as_decimals(a: Formula, b: Formula) -> bool | None:
    """Compare two formulas that differ, of which one may be a decimal rounding of the other."""
    if not (a.decimal or b.decimal):
        return False
    x, y = a.real(), b.real()
    if x is None or y is None:
        return None
    if x.is_integer() or y.is_integer() or not (isfinite(x) and isfinite(y)):
        return False
    return same_decimal(Fraction(x), Fraction(y))


def _has_value(formula: Formula) -> bool:
    return formula.infinity != 0 or None not in formula.samples


def _as_float(value: Value) -> tuple[complex, float]:
    if isinstance(value, Approx):
        return value
    try:
        number = float(value)
    except OverflowError:
        number = float("inf") if value > 0 else float("-inf")
    return number, abs(number) * 2e-16 if abs(number) < float("inf") else 0.0


def _on_one_line(xs: Sequence[float], ys: Sequence[complex]) -> bool:
    """Are the slopes from the first point to all others the same? The last x is another one."""
    run, rise = xs[-1] - xs[0], ys[-1] - ys[0]
    bound = SAME * max(map(abs, ys)) * max(map(abs, xs))
    return all(
        abs((y - ys[0]) * run - rise * (x - xs[0])) <= bound for x, y in zip(xs, ys, strict=True)
    )


def _sample(tree: Expression, point: Mapping[str, Fraction]) -> Sample | None:
    evaluator = Evaluator(point)
    try:
        return Sample(evaluator.value(tree), evaluator.delicate)
    except NoValueError:
        return None


def _is_undefined(tree: Expression, point: Mapping[str, Fraction]) -> bool:
    try:
        Evaluator(point).value(tree)
    except UndefinedError:
        return True
    except NoValueError:
        return False
    return False


def _point(index: int, names: frozenset[str]) -> dict[str, Fraction]:
    """Values of the variables, a function of (name, index).

    They are multiples of 1/32 between 0.2 and 3.1, exact as floats, and never 1.
    """
    values = {}
    for name in names:
        numerator = 5 + zlib.crc32(f"{index} {name}".encode()) % 95
        value = Fraction(2 * numerator + 1, 64)
        values[name] = -value if index == POSITIVE_POINTS else value
    return values


def _variables(tree: Expression) -> list[str]:
    if isinstance(tree, Name):
        return [] if tree.constant else [tree.text]
    if isinstance(tree, Operation):
        return [name for argument in tree.arguments for name in _variables(argument)]
    return []


def _holds_pi(tree: Expression) -> bool:
    if isinstance(tree, Operation):
        return any(map(_holds_pi, tree.arguments))
    return isinstance(tree, Name) and tree.text == "pi"


def _renamed(tree: Expression, name: str) -> Expression:
    if isinstance(tree, Operation):
        return Operation(tree.name, tuple(_renamed(part, name) for part in tree.arguments))
    return Name(name) if isinstance(tree, Name) and not tree.constant else tree


def _any_decimal(tree: Expression) -> bool:
    if isinstance(tree, Operation):
        return any(map(_any_decimal, tree.arguments))
    return isinstance(tree, Number) and tree.decimal
