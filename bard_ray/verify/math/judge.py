r"""Comparison of two answers without sympy: equal, different, refused, or undecided.

What is equal to what is listed, case by case, in docs/grading.md. Undecided is always allowed: it
costs a call of math-verify. Refused is an answer that is ambiguous or names several values where
one was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import product

from bard_ray.verify.math.compare import compare_normalized
from bard_ray.verify.math.expression import Name, Number, Operation
from bard_ray.verify.math.formula import Formula, proportional, same_value
from bard_ray.verify.math.reader import open_interval, read_answer, read_gold
from bard_ray.verify.math.regions import same_region
from bard_ray.verify.math.structure import (
    BaseNumber,
    Equation,
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


class Finding(Enum):
    """What a comparison found."""

    EQUAL = auto()
    DIFFERENT = auto()
    HEDGE = auto()  # several answers where one was asked for
    AMBIGUOUS = auto()
    UNDECIDED = auto()


EQUAL, DIFFERENT, HEDGE, AMBIGUOUS, UNDECIDED = Finding
# Letters that count through the integers in a general solution such as `2k\pi`.
_COUNTERS = frozenset("kmnl")
_WORDS_OF_TWO = frozenset(("no", "up", "on", "in"))


@dataclass(frozen=True, slots=True)
class Judgment:
    """A finding; `exact` where plain rational numbers or texts decided it."""

    finding: Finding
    exact: bool = False


def judge(answer: str, gold: str) -> Judgment:
    """Compare two normalized answers.

    Args:
        answer: what the policy wrote.
        gold: the reference; its reading is remembered.

    Returns:
        What was found. Source: ours.
    """
    exact = compare_normalized(answer, gold)
    if exact is not None:
        return Judgment(EQUAL if exact else DIFFERENT, exact=True)
    golds = read_gold(gold)
    if not golds:
        return Judgment(UNDECIDED)
    findings = {compare(a, g) for a, g in product(read_answer(answer), golds)}
    for finding in (EQUAL, UNDECIDED, HEDGE, AMBIGUOUS, DIFFERENT):
        if finding in findings:
            return Judgment(finding)
    return Judgment(UNDECIDED)


def compare(answer: Shape, gold: Shape) -> Finding:
    """Compare two shapes; the answer's side and the gold's are not interchangeable."""
    if type(answer) is type(gold):
        return _SAME_SHAPE[type(gold)](answer, gold)
    answer, gold = _aligned(answer, gold)
    if type(answer) is type(gold):
        return _SAME_SHAPE[type(gold)](answer, gold)
    if isinstance(answer, (Tuple, Set, Listing)) and isinstance(gold, (Tuple, Set, Listing)):
        ordered = isinstance(answer, Tuple) or isinstance(gold, Tuple)
        return (_in_order if ordered else _in_any_order)(answer.items, gold.items)
    if isinstance(answer, Ratio) or isinstance(gold, Ratio):
        return AMBIGUOUS
    if isinstance(answer, Listing):
        return HEDGE
    if isinstance(answer, BaseNumber) or isinstance(gold, BaseNumber):
        return _compare_base(answer, gold)
    return UNDECIDED if isinstance(answer, Matrix) or isinstance(gold, Matrix) else DIFFERENT


def _aligned(answer: Shape, gold: Shape) -> tuple[Shape, Shape]:
    """The same two with one side read as the other's shape, where that is what people mean."""
    if isinstance(answer, Region) or isinstance(gold, Region):
        return open_interval(answer) or answer, open_interval(gold) or gold
    if isinstance(answer, Tuple) or isinstance(gold, Tuple):
        return _as_tuple(answer), _as_tuple(gold)
    answer, gold = _single(answer), _single(gold)
    if isinstance(answer, Equation) and answer.left.variables and isinstance(gold, Scalar):
        return Scalar(answer.right), gold
    if isinstance(gold, Equation) and isinstance(answer, Scalar):
        return answer, Scalar(gold.right)
    return answer, gold


def _single(shape: Shape) -> Shape:
    """The element of `{5}`; a product of variables in place of a word that may be one."""
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


def _compare_base(answer: Shape, gold: Shape) -> Finding:
    """The gold names a base and the answer leaves it out, or the other way round."""
    if isinstance(gold, BaseNumber) and isinstance(answer, Scalar) and not answer.unit:
        return EQUAL if answer.formula.tree == Number(int(gold.digits)) else DIFFERENT
    return AMBIGUOUS


def _compare_scalars(answer: Scalar, gold: Scalar) -> Finding:
    a, g = answer.formula, gold.formula
    units = {answer.unit or a.mark, gold.unit or g.mark}
    if len(units) == 2 and "" not in units:
        return DIFFERENT
    # `9` beside `9\%`: the number alone, or its value, may be meant.
    if a.mark != g.mark and same_value(_unmarked(a), _unmarked(g)):
        return EQUAL
    same = same_value(a, g)
    if not same and _same_general_solution(a, g):
        return EQUAL
    return AMBIGUOUS if same is None and a.undefined else _finding(same)


def _unmarked(formula: Formula) -> Formula:
    return formula.unmarked if formula.mark else formula


def _same_general_solution(a: Formula, g: Formula) -> bool:
    r"""`2k\pi` and `2n\pi`: the same, but for the name of the integer."""
    if a.variables == g.variables or len(a.variables) != 1 or len(g.variables) != 1:
        return False
    if not (a.variables | g.variables) <= _COUNTERS or not (a.has_pi and g.has_pi):
        return False
    return same_value(a.renamed(*g.variables), g) is True


def _compare_words(answer: Words, gold: Words) -> Finding:
    a, g = answer.text.casefold(), gold.text.casefold()
    if a == g and (len(g) > 2 or g in _WORDS_OF_TWO):
        return EQUAL
    if len(answer.text) == len(gold.text) == 2 and sorted(answer.text) == sorted(gold.text):
        return EQUAL  # `AB` is `BA`, as a product and as a segment
    return AMBIGUOUS if sorted(a) == sorted(g) and len(g) > 2 else DIFFERENT


def _compare_equations(answer: Equation, gold: Equation) -> Finding:
    if same_value(answer.left, answer.right):
        return AMBIGUOUS  # `x=x` says nothing
    left = same_value(answer.left, gold.left)
    if left:
        return _finding(same_value(answer.right, gold.right))
    if _is_name(gold.left) and _is_name(answer.left):
        return UNDECIDED
    return EQUAL if proportional(_difference(answer), _difference(gold)) else UNDECIDED


def _compare_regions(answer: Region, gold: Region) -> Finding:
    if answer.name and gold.name and answer.name != gold.name:
        return UNDECIDED
    return _finding(same_region(answer, gold))


def _compare_ratios(answer: Ratio, gold: Ratio) -> Finding:
    if len(answer.parts) != len(gold.parts):
        return DIFFERENT
    crossed = [
        same_value(_times(a, gold.parts[0]), _times(g, answer.parts[0]))
        for a, g in zip(answer.parts[1:], gold.parts[1:], strict=True)
    ]
    if False in crossed:
        return DIFFERENT
    # Parts of zero would be proportional to anything.
    zero = any(part.real() == 0 for part in (*answer.parts, *gold.parts))
    return UNDECIDED if None in crossed or zero else EQUAL


def _compare_matrices(answer: Matrix, gold: Matrix) -> Finding:
    shapes = [(len(matrix.rows), len(matrix.rows[0])) for matrix in (answer, gold)]
    if shapes[0] != shapes[1]:
        # A row for a column is left to math-verify.
        return UNDECIDED if shapes[0] == shapes[1][::-1] and 1 in shapes[0] else DIFFERENT
    a, g = ([Scalar(cell) for row in matrix.rows for cell in row] for matrix in (answer, gold))
    return _in_order(a, g)


def _compare_base_numbers(answer: BaseNumber, gold: BaseNumber) -> Finding:
    return EQUAL if answer == gold else DIFFERENT


def _in_order(answers: Sequence[Shape], golds: Sequence[Shape]) -> Finding:
    if len(answers) != len(golds):
        return DIFFERENT
    findings = {compare(a, g) for a, g in zip(answers, golds, strict=True)}
    return _all_equal(findings)


def _in_any_order(answers: Sequence[Shape], golds: Sequence[Shape]) -> Finding:
    """Is every element of either side in the other? So repetitions do not count."""
    rows = [[compare(a, g) for g in golds] for a in answers]
    columns = list(zip(*rows, strict=True))
    found = {_any_equal(line) for line in (*rows, *columns)}
    return _all_equal(found) if answers and golds else _finding(len(answers) == len(golds))


def _any_equal(line: Sequence[Finding]) -> Finding:
    if EQUAL in line:
        return EQUAL
    return DIFFERENT if {*line} == {DIFFERENT} else UNDECIDED


def _all_equal(findings: set[Finding]) -> Finding:
    if findings <= {EQUAL}:
        return EQUAL
    return DIFFERENT if DIFFERENT in findings else UNDECIDED


def _finding(same: bool | None) -> Finding:
    if same is None:
        return UNDECIDED
    return EQUAL if same else DIFFERENT


def _difference(equation: Equation) -> Formula:
    negated = Operation("neg", (equation.right.tree,))
    return Formula(Operation("+", (equation.left.tree, negated)))


def _times(a: Formula, b: Formula) -> Formula:
    return Formula(Operation("*", (a.tree, b.tree)))


def _is_name(formula: Formula) -> bool:
    return isinstance(formula.tree, Name) and not formula.tree.constant


_SAME_SHAPE: dict[type, Callable[..., Finding]] = {
    Scalar: _compare_scalars,
    Words: _compare_words,
    Equation: _compare_equations,
    Region: _compare_regions,
    Ratio: _compare_ratios,
    Matrix: _compare_matrices,
    BaseNumber: _compare_base_numbers,
    Tuple: lambda answer, gold: _in_order(answer.items, gold.items),
    Set: lambda answer, gold: _in_any_order(answer.items, gold.items),
    Listing: lambda answer, gold: _in_any_order(answer.items, gold.items),
}
