r"""Value of an expression at a point: exact if it is rational, else a float with an error bound.

Numbers stay bounded: the size of powers, factorials and binomials is checked before they are
computed, and an evaluation has a limit on its total bits. An expression without a finite value here
(`1/0`, a number beyond floats, a factorial of a variable) raises `NoValueError` and is undecided.

Error bounds are first-order, with a margin of several units in the last place per operation; the
comparison (`bard_ray.verify.math.formula`) requires a factor of ten beyond them.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

from bard_ray.verify.math.expression import Expression, Name, Number

MAX_BITS = 24_576  # of one number; 2006! has 19,112
MAX_TOTAL_BITS = 131_072  # of all long numbers of one evaluation
MAX_FACTORIAL = 2_100
_EPSILON = 1e-15  # relative error granted to one float operation (half a unit is 1.1e-16)

Exact = int | Fraction


class NoValueError(ArithmeticError):
    """There is no reliable value."""


Inexact = float | complex


class UndefinedError(NoValueError):
    r"""The value is undefined: `0/0`, `0^0`, `\infty-\infty`."""


class Approx(NamedTuple):
    """A float or complex number and a bound of its absolute error."""

    value: Inexact
    error: float


Value = int | Fraction | Approx


class Evaluator:
    """Evaluates trees at one point.

    Attributes:
        delicate: a branch was chosen during evaluation (root or logarithm of a negative number, an
            inverse function outside its domain, a logarithm without a base), so that another
            reading of the same text may have another value.
    """

    def __init__(self, point: Mapping[str, Fraction]) -> None:
        self._point = point
        self._bits_left = MAX_TOTAL_BITS
        self.delicate = False

    def value(self, tree: Expression) -> Value:
        """Value of a tree.

        Raises:
            NoValueError: it has no value, or no reliable one.
        """
        try:
            return self._value(tree)
        except NoValueError:
            raise
        except (ArithmeticError, ValueError) as error:  # overflow, domain, division by zero
            raise NoValueError from error

    def _value(self, tree: Expression) -> Value:
        if isinstance(tree, Number):
            return tree.value
        if isinstance(tree, Name):
            return _constant(tree.text) if tree.constant else self._point[tree.text]
        return self._applied(tree.name, [self._value(argument) for argument in tree.arguments])

    def _applied(self, name: str, arguments: list[Value]) -> Value:
        if name in _ARITHMETIC:
            return self._bounded(_ARITHMETIC[name](arguments))
        if name == "^":
            return self._power(arguments[0], arguments[1])
        if name == "sqrt":
            return self._root(*arguments)
        if name == "log":
            return self._logarithm(arguments)
        return self._function(name, arguments[0])

    def _bounded(self, value: Value) -> Value:
        if isinstance(value, Approx):
            return value
        bits = _bits(value)
        if bits > 64:
            self._bits_left -= bits
            if bits > MAX_BITS or self._bits_left < 0:
                raise NoValueError
        return value

    def _power(self, base: Value, exponent: Value) -> Value:
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            exponent = exponent.numerator
        if isinstance(exponent, int):
            return self._integer_power(base, exponent)
        if exponent == Fraction(1, 2):
            return self._root(base)
        b, e = _approx(base), _approx(exponent)
        if isinstance(b.value, complex) or b.value <= 0:
            raise NoValueError
        value = _checked(b.value**e.value)
        relative = abs(e.value) * b.error / b.value + abs(math.log(b.value)) * e.error
        return Approx(value, abs(value) * (relative + _EPSILON * (2 + abs(e.value))))

    def _integer_power(self, base: Value, exponent: int) -> Value:
        if base == 0 and exponent <= 0:
            raise UndefinedError
        if not isinstance(base, Approx):
            if abs(exponent) * _bits(base) > MAX_BITS + abs(exponent):
                raise NoValueError
            return self._bounded(
                _reduced(base**exponent if exponent >= 0 else Fraction(base) ** exponent)
            )
        value = _checked(base.value**exponent)
        relative = abs(exponent) * (base.error / abs(base.value) + _EPSILON)
        return Approx(value, abs(value) * relative)

    def _root(self, radicand: Value, degree: Value = 2) -> Value:
        if not isinstance(degree, int) or degree < 2:
            raise NoValueError
        exact = None if isinstance(radicand, Approx) else _exact_root(radicand, degree)
        if exact is not None:
            return exact
        r = _approx(radicand)
        if abs(r.value) <= 2 * r.error:
            raise NoValueError
        value = self._root_of_float(r.value, degree)
        return Approx(value, abs(value) * (r.error / abs(r.value) + 2 * _EPSILON))

    def _root_of_float(self, value: Inexact, degree: int) -> Inexact:
        if isinstance(value, complex):
            self.delicate = True
            return value ** (1 / degree)
        if value > 0:
            return math.sqrt(value) if degree == 2 else math.pow(value, 1 / degree)
        if degree % 2:  # an odd root of a negative number is the real one
            return -math.pow(-value, 1 / degree)
        self.delicate = True
        return complex(0, math.sqrt(-value)) if degree == 2 else complex(value) ** (1 / degree)

    def _logarithm(self, arguments: list[Value]) -> Value:
        if len(arguments) == 1:  # no base: read as base 10, although it may be e
            self.delicate = True
            return _divided([self._function("ln", arguments[0]), _approx(_LN_10)])
        base, of = arguments
        return _divided([self._function("ln", of), self._function("ln", base)])

    def _function(self, name: str, argument: Value) -> Value:
        if (argument == 0 and name in _ZERO_AT_ZERO) or (argument == 1 and name in _ZERO_AT_ONE):
            return 0
        x = _approx(argument)
        real, general, slope = _FUNCTIONS[name]
        if isinstance(x.value, complex) or not _in_domain(name, x.value):
            self.delicate = True
            value = general(x.value)
        else:
            value = real(x.value)
        steep = abs(slope(x.value)) if x.error else 0.0
        return Approx(_checked(value), steep * x.error + abs(value) * 2 * _EPSILON)


def _constant(name: str) -> Value:
    if name not in _CONSTANTS:  # infinity inside an expression
        raise UndefinedError
    return _CONSTANTS[name]


def _approx(value: Value) -> Approx:
    if isinstance(value, Approx):
        return value
    number = float(value)
    if number == 0 and value != 0:  # underflow
        raise NoValueError
    small = value.denominator == 1 and abs(number) < 2**53
    return Approx(number, 0.0 if small else abs(number) * _EPSILON)


def _checked(value: Inexact) -> Inexact:
    """A finite number that did not underflow; a real one is a float."""
    if not cmath.isfinite(value) or value == 0:
        raise NoValueError
    return value


def _reduced(value: Exact) -> Exact:
    return value.numerator if value.denominator == 1 else value


def _bits(value: Exact) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _added(arguments: list[Value]) -> Value:
    exact: Exact = 0
    total: Inexact = 0.0
    error = 0.0
    approximate = False
    for argument in arguments:
        if isinstance(argument, Approx):
            approximate = True
            total += argument.value
            error += argument.error + _EPSILON * max(abs(total), abs(argument.value))
        else:
            exact += argument
    if not approximate:
        return _reduced(exact)
    rest = _approx(exact)
    total += rest.value
    return Approx(total, error + rest.error + _EPSILON * max(abs(total), abs(rest.value)))


def _multiplied(arguments: list[Value]) -> Value:
    a, b = arguments
    if not isinstance(a, Approx) and not isinstance(b, Approx):
        return _reduced(a * b)
    if a == 0 or b == 0:
        return 0
    a, b = _approx(a), _approx(b)
    value = _checked(a.value * b.value)
    return Approx(value, abs(a.value) * b.error + abs(b.value) * a.error + abs(value) * _EPSILON)


def _divided(arguments: list[Value]) -> Value:
    a, b = arguments
    if b == 0:
        raise UndefinedError
    if not isinstance(a, Approx) and not isinstance(b, Approx):
        return _reduced(Fraction(a) / Fraction(b))
    if a == 0:
        return 0
    a, b = _approx(a), _approx(b)
    size = abs(b.value)
    if size <= 2 * b.error:
        raise NoValueError
    value = _checked(a.value / b.value)
    return Approx(
        value, (a.error + abs(value) * b.error) / (size - b.error) + abs(value) * _EPSILON
    )


def _negative(arguments: list[Value]) -> Value:
    (a,) = arguments
    return Approx(-a.value, a.error) if isinstance(a, Approx) else -a


def _absolute(arguments: list[Value]) -> Value:
    (a,) = arguments
    if isinstance(a, Approx):
        return Approx(abs(a.value), a.error)
    return a if a >= 0 else -a


def _percent(arguments: list[Value]) -> Value:
    return _divided([arguments[0], 100])


def _degrees(arguments: list[Value]) -> Value:
    return _multiplied([arguments[0], Approx(math.pi / 180, math.pi / 180 * _EPSILON)])


def _factorial(arguments: list[Value]) -> Value:
    (n,) = arguments
    if not isinstance(n, int) or not 0 <= n <= MAX_FACTORIAL:
        raise NoValueError
    return math.factorial(n)


def _binomial(arguments: list[Value]) -> Value:
    n, k = arguments
    if not isinstance(n, int) or not isinstance(k, int) or not 0 <= k <= n <= MAX_FACTORIAL:
        raise NoValueError
    return math.comb(n, k)


def _exact_root(radicand: Exact, degree: int) -> Exact | None:
    """The root if it is rational (a perfect square), else None."""
    if degree != 2 or radicand < 0:
        return None
    top, bottom = math.isqrt(radicand.numerator), math.isqrt(radicand.denominator)
    if top * top != radicand.numerator or bottom * bottom != radicand.denominator:
        return None
    return top if bottom == 1 else Fraction(top, bottom)


def _in_domain(name: str, value: float) -> bool:
    if name == "ln":
        return value > 0
    return abs(value) <= 1 if name in ("arcsin", "arccos") else True


_LN_10 = Approx(math.log(10), 1e-15)
_CONSTANTS: dict[str, Value] = {
    "pi": Approx(math.pi, 4e-16),
    "e": Approx(math.e, 4e-16),
    "i": Approx(1j, 0.0),
}
_ARITHMETIC: dict[str, Callable[[list[Value]], Value]] = {
    "+": _added,
    "*": _multiplied,
    "/": _divided,
    "neg": _negative,
    "abs": _absolute,
    "%": _percent,
    "°": _degrees,
    "!": _factorial,
    "binom": _binomial,
}
_ZERO_AT_ZERO = frozenset(("sin", "tan", "arcsin", "arctan"))
_ZERO_AT_ONE = frozenset(("ln", "arccos"))
# For each function: real version, complex version, derivative.
_FUNCTIONS: dict[
    str,
    tuple[Callable[[float], float], Callable[[complex], complex], Callable[[complex], complex]],
] = {
    "sin": (math.sin, cmath.sin, cmath.cos),
    "cos": (math.cos, cmath.cos, cmath.sin),
    "tan": (math.tan, cmath.tan, lambda z: 1 + cmath.tan(z) ** 2),
    "cot": (
        lambda x: 1 / math.tan(x),
        lambda z: 1 / cmath.tan(z),
        lambda z: 1 + cmath.tan(z) ** -2,
    ),
    "sec": (
        lambda x: 1 / math.cos(x),
        lambda z: 1 / cmath.cos(z),
        lambda z: cmath.sin(z) / cmath.cos(z) ** 2,
    ),
    "csc": (
        lambda x: 1 / math.sin(x),
        lambda z: 1 / cmath.sin(z),
        lambda z: cmath.cos(z) / cmath.sin(z) ** 2,
    ),
    "arcsin": (math.asin, cmath.asin, lambda z: 1 / cmath.sqrt(1 - z * z)),
    "arccos": (math.acos, cmath.acos, lambda z: 1 / cmath.sqrt(1 - z * z)),
    "arctan": (math.atan, cmath.atan, lambda z: 1 / (1 + z * z)),
    "ln": (math.log, cmath.log, lambda z: 1 / z),
    "exp": (math.exp, cmath.exp, cmath.exp),
}
