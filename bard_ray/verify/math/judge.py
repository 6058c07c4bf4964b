r"""Comparison of two answers without sympy: equal, different, refused, or undecided.

docs/grading.md lists the equivalences case by case. Undecided is always a valid result: it costs a
call of math-verify. An answer is refused if it is ambiguous, contradicts itself or gives several
values for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from bard_ray.verify.math import names
from bard_ray.verify.math.chain import may_be_asked
from bard_ray.verify.math.compare import compare_normalized
from bard_ray.verify.math.finding import (
    AMBIGUOUS,
    CONTRADICTION,
    DIFFERENT,
    EQUAL,
    HEDGE,
    UNDECIDED,
    Finding,
    all_equal,
    any_equal,
    finding_of,
)
from bard_ray.verify.math.formula import Formula, same_value
from bard_ray.verify.math.reader import read_answer, read_gold
from bard_ray.verify.math.structure import (
    BaseNumber,
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
    Words,
)
from bard_ray.verify.math.terms import open_interval
from bard_ray.verify.math.values import (
    compare_base,
    compare_base_numbers,
    compare_matrices,
    compare_ratios,
    compare_regions,
    compare_scalars,
    compare_words,
)
from bard_ray.verify.math.zeros import same_equation

# Precedence of findings among several readings of one answer.
_PRECEDENCE = (EQUAL, UNDECIDED, CONTRADICTION, HEDGE, AMBIGUOUS, DIFFERENT)
_SEVERAL = (Tuple, Set, Listing)
_COORDINATES = frozenset("xyz")


@dataclass(frozen=True, slots=True)
class Judgment:
    """A finding; `exact` if it is based on plain rational numbers or texts."""

    finding: Finding
    exact: bool = False


def judge(answer: str, gold: str) -> Judgment:
    """Compare two normalized answers.

    Args:
        answer: what the policy wrote.
        gold: the reference; its reading is cached.

    Returns:
        The judgment. Source: ours.
    """
    exact = compare_normalized(answer, gold)
    if exact is not None:
        return Judgment(EQUAL if exact else DIFFERENT, exact=True)
    golds = read_gold(gold)
    if not golds:
        return Judgment(UNDECIDED)
    findings = {compare(a, g) for a, g in product(read_answer(answer), golds)}
    return Judgment(next((f for f in _PRECEDENCE if f in findings), UNDECIDED))


def compare(answer: Shape, gold: Shape) -> Finding:
    """Compare two shapes; the answer's side and the gold's are not interchangeable."""
    if isinstance(answer, Contradiction):
        return CONTRADICTION
    if type(answer) is type(gold):
        return _SAME_SHAPE[type(gold)](answer, gold)
    finding = _compare_named(answer, gold)
    if finding is not None:
        return finding
    answer, gold = _aligned(answer, gold)
    if type(answer) is type(gold):
        return _SAME_SHAPE[type(gold)](answer, gold)
    return _compare_kinds(answer, gold)


def _compare_kinds(answer: Shape, gold: Shape) -> Finding:
    """Two shapes of different kinds."""
    if isinstance(answer, _SEVERAL) and isinstance(gold, _SEVERAL):
        ordered = isinstance(answer, Tuple) or isinstance(gold, Tuple)
        return (_in_order if ordered else _in_any_order)(answer.items, gold.items)
    if isinstance(answer, Ratio) or isinstance(gold, Ratio):
        return AMBIGUOUS
    if isinstance(answer, Listing):
        return HEDGE
    if isinstance(answer, BaseNumber) or isinstance(gold, BaseNumber):
        return compare_base(answer, gold)
    return UNDECIDED if isinstance(answer, Matrix) or isinstance(gold, Matrix) else DIFFERENT


def _aligned(answer: Shape, gold: Shape) -> tuple[Shape, Shape]:
    """The two shapes, with one read as the other's kind where that is the common meaning."""
    if isinstance(answer, Region) or isinstance(gold, Region):
        return open_interval(answer) or answer, open_interval(gold) or gold
    if isinstance(answer, Tuple) or isinstance(gold, Tuple):
        return _as_tuple(answer), _as_tuple(gold)
    return _single(answer), _single(gold)


def _single(shape: Shape) -> Shape:
    """The element of `{5}`, or the product of variables that a word may stand for."""
    if isinstance(shape, Set) and len(shape.items) == 1:
        return shape.items[0]
    if isinstance(shape, Words) and shape.product is not None:
        return Scalar(shape.product)
    return shape


def _as_tuple(shape: Shape) -> Shape:
    """A row or column vector as a tuple."""
    if isinstance(shape, Matrix) and 1 in (len(shape.rows), len(shape.rows[0])):
        return Tuple(tuple(Scalar(cell) for row in shape.rows for cell in row))
    return shape


# --- equations and named values


def _compare_named(answer: Shape, gold: Shape) -> Finding | None:
    """Compare named values or an equation with any shape; None if neither side is one."""
    if isinstance(gold, Record):
        return _without_names(answer, gold)
    if isinstance(answer, Record):
        return _with_names(answer, gold)
    if isinstance(gold, Equation):
        # A bare value may answer an equation that names it; it does not determine other equations.
        named = gold.left.names and names.canonical(gold.left.text) not in gold.right_variables
        return compare(answer, gold.right) if named else DIFFERENT
    return _right_side(answer, gold) if isinstance(answer, Equation) else None


def _right_side(answer: Equation, gold: Shape) -> Finding:
    """Compare an equation with a bare gold value: `x=5`, `m+n=17`."""
    if answer.left.computed:  # `7=11a+c`
        return DIFFERENT
    if answer.left.variables & answer.right_variables:  # `x=1/x`, `(x+1)^2=x^2+1`
        return AMBIGUOUS
    if not may_be_asked(answer.left):  # `2x=10`, `5\ne x=6`
        return AMBIGUOUS
    return compare(answer.right, gold)


def _compare_equations(answer: Equation, gold: Equation) -> Finding:
    if _says_nothing(answer):
        return AMBIGUOUS  # `x=x`
    if _same_left(answer.left, gold.left):
        return compare(answer.right, gold.right)
    renamed = _with_argument_of(gold.left, answer)
    if renamed is not None:
        return compare(renamed, gold.right)
    if names.call(answer.left.text) and names.call(gold.left.text):  # `f(3)=5` is not `f(2)=5`
        return DIFFERENT
    a, g = _formulas(answer), _formulas(gold)
    if a and g:
        return finding_of(same_equation(a, g))
    # The same value under possibly different names; math-verify would ignore the names.
    return DIFFERENT if compare(answer.right, gold.right) is DIFFERENT else UNDECIDED


def _says_nothing(equation: Equation) -> bool:
    left, right = equation.left.formula, equation.right
    return left is not None and isinstance(right, Scalar) and bool(same_value(left, right.formula))


def _same_left(answer: Left, gold: Left) -> bool:
    if names.canonical(answer.text) == names.canonical(gold.text):
        return True
    if answer.formula is None or gold.formula is None:
        return False
    return same_value(answer.formula, gold.formula) is True


def _with_argument_of(gold: Left, answer: Equation) -> Shape | None:
    """The answer's right side if it defines the gold's function under another name.

    `f(t)=2t+3` for `f(x)`, and `y=2x+3` for `f(x)`; None for anything else.
    """
    wanted, given = names.call(gold.text), names.call(answer.left.text)
    if wanted is None or not isinstance(answer.right, Scalar):
        return None
    variables = answer.right.formula.variables
    if given is None:
        defines = names.is_variable(answer.left.text) and variables == {wanted[1]}
        return answer.right if defines and answer.left.text not in variables else None
    if given[0] != wanted[0] or not (given[1] + wanted[1]).islower():  # nor `P(A)` for `P(B)`
        return None
    return Scalar(answer.right.formula.renamed(wanted[1])) if variables <= {given[1]} else None


def _formulas(equation: Equation) -> tuple[Formula, Formula] | None:
    left, right = equation.left.formula, equation.right
    return (left, right.formula) if left and isinstance(right, Scalar) else None


# --- records


def _without_names(answer: Shape, gold: Record) -> Finding:
    """Compare unnamed values with a gold of named ones, in the order of the names."""
    if not isinstance(answer, _SEVERAL) or _has_equation(answer.items):
        return DIFFERENT
    return _in_order(answer.items, _values_in_order(gold, as_written=gold.ordered))


def _with_names(answer: Record, gold: Shape) -> Finding:
    """Compare named values with unnamed ones: lists are unordered, tuples ordered by name."""
    if not isinstance(gold, _SEVERAL):
        return HEDGE
    if _has_equation(gold.items):  # `x=1 or y=2`
        return DIFFERENT
    ordered = isinstance(gold, Tuple)
    coordinates = answer.ordered and {*_by_name(answer)} <= _COORDINATES
    values = _values_in_order(answer, as_written=answer.ordered and not coordinates)
    return (_in_order if ordered else _in_any_order)(values, gold.items)


def _has_equation(items: Sequence[Shape]) -> bool:
    return any(isinstance(item, Equation) for item in items)


def _compare_records(answer: Record, gold: Record) -> Finding:
    answers, golds = _by_name(answer), _by_name(gold)
    if answers.keys() != golds.keys():
        return DIFFERENT
    return all_equal({compare(answers[name], golds[name]) for name in golds})


def _by_name(record: Record) -> dict[str, Shape]:
    return {names.canonical(field.left.text): field.right for field in record.fields}


def _values_in_order(record: Record, as_written: bool) -> list[Shape]:
    """Values in the order of the names if these are consecutive letters.

    `y=1,x=2` is the pair (2,1). Other names keep their order, and so do those of a tuple, whose
    order is that of the question; but a tuple of coordinates in an answer, `(y,x)`, is read in the
    order x, y, z.
    """
    values = _by_name(record)
    letters = sorted(values)
    follow = [chr(ord(letters[0][0]) + index) for index in range(len(letters))]
    in_alphabet = letters == follow and not as_written
    return [values[name] for name in (letters if in_alphabet else values)]


# --- several values


def _in_order(answers: Sequence[Shape], golds: Sequence[Shape]) -> Finding:
    if len(answers) != len(golds):
        return DIFFERENT
    return all_equal({compare(a, g) for a, g in zip(answers, golds, strict=True)})


def _in_any_order(answers: Sequence[Shape], golds: Sequence[Shape]) -> Finding:
    """Whether each side contains every element of the other; repetitions are ignored."""
    rows = [[compare(a, g) for g in golds] for a in answers]
    columns = list(zip(*rows, strict=True))
    found = {any_equal(set(line)) for line in (*rows, *columns)}
    return all_equal(found) if answers and golds else finding_of(len(answers) == len(golds))


_SAME_SHAPE: dict[type, Callable[..., Finding]] = {
    Scalar: compare_scalars,
    Words: compare_words,
    Equation: _compare_equations,
    Record: _compare_records,
    Region: compare_regions,
    Ratio: compare_ratios,
    Matrix: compare_matrices,
    BaseNumber: compare_base_numbers,
    Contradiction: lambda _answer, _gold: CONTRADICTION,
    Tuple: lambda answer, gold: _in_order(answer.items, gold.items),
    Set: lambda answer, gold: _in_any_order(answer.items, gold.items),
    Listing: lambda answer, gold: _in_any_order(answer.items, gold.items),
}
