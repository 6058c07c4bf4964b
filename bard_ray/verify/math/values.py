"""Comparison of simple shapes: scalars, words, regions, ratios, matrices."""

from __future__ import annotations

from bard_ray.verify.math.expression import Number, Operation
from bard_ray.verify.math.finding import (
    AMBIGUOUS,
    DIFFERENT,
    EQUAL,
    UNDECIDED,
    Finding,
    all_equal,
    finding_of,
)
from bard_ray.verify.math.formula import Formula, same_value
from bard_ray.verify.math.regions import same_region
from bard_ray.verify.math.structure import (
    BaseNumber,
    Matrix,
    Ratio,
    Region,
    Scalar,
    Shape,
    Words,
)

# Letters that stand for any integer in a general solution such as `2k\pi`.
_COUNTERS = frozenset("kmnl")
_WORDS_OF_TWO = frozenset(("no", "up", "on", "in"))


def compare_scalars(answer: Scalar, gold: Scalar) -> Finding:
    """Compare values, and units if both have one."""
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
    return AMBIGUOUS if same is None and a.undefined else finding_of(same)


def compare_words(answer: Words, gold: Words) -> Finding:
    """Compare words; case is ignored from three letters on, two may be a product or segment."""
    a, g = answer.text.casefold(), gold.text.casefold()
    if a == g and (len(g) > 2 or g in _WORDS_OF_TWO):
        return EQUAL
    if len(answer.text) == len(gold.text) == 2 and sorted(answer.text) == sorted(gold.text):
        return EQUAL  # `AB` is `BA`, as a product and as a segment
    return AMBIGUOUS if sorted(a) == sorted(g) and len(g) > 2 else DIFFERENT


def compare_regions(answer: Region, gold: Region) -> Finding:
    """Compare sets of numbers, and their variables if both name one."""
    if answer.name and gold.name and answer.name != gold.name:
        return DIFFERENT
    return finding_of(same_region(answer, gold))


def compare_ratios(answer: Ratio, gold: Ratio) -> Finding:
    """Proportional parts."""
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


def compare_matrices(answer: Matrix, gold: Matrix) -> Finding:
    """Compare cells; a row against a column is left to math-verify."""
    shapes = [(len(matrix.rows), len(matrix.rows[0])) for matrix in (answer, gold)]
    if shapes[0] != shapes[1]:
        return UNDECIDED if shapes[0] == shapes[1][::-1] and 1 in shapes[0] else DIFFERENT
    a, g = ([Scalar(cell) for row in matrix.rows for cell in row] for matrix in (answer, gold))
    return all_equal({compare_scalars(x, y) for x, y in zip(a, g, strict=True)})


def compare_base_numbers(answer: BaseNumber, gold: BaseNumber) -> Finding:
    """Compare digits and bases."""
    return EQUAL if answer == gold else DIFFERENT


def compare_base(answer: Shape, gold: Shape) -> Finding:
    """Compare two numbers of which only one names its base."""
    if isinstance(gold, BaseNumber) and isinstance(answer, Scalar) and not answer.unit:
        return EQUAL if answer.formula.tree == Number(int(gold.digits)) else DIFFERENT
    return AMBIGUOUS


def _unmarked(formula: Formula) -> Formula:
    return formula.unmarked if formula.mark else formula


def _same_general_solution(a: Formula, g: Formula) -> bool:
    r"""Whether two formulas differ only in the name of the integer: `2k\pi` and `2n\pi`."""
    if a.variables == g.variables or len(a.variables) != 1 or len(g.variables) != 1:
        return False
    if not (a.variables | g.variables) <= _COUNTERS or not (a.has_pi and g.has_pi):
        return False
    return same_value(a.renamed(*g.variables), g) is True


def _times(a: Formula, b: Formula) -> Formula:
    return Formula(Operation("*", (a.tree, b.tree)))
