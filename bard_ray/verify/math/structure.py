r"""Shapes of answers: the meaning of an answer's tokens as one of a few frozen classes.

    5, x+1, 12 cm, 30^\circ        Scalar          (1,2), (1,2,3)            Tuple
    {1,2}                          Set             1,2   1 or 2   3\pm1      Listing
    (1,2], x>3, x<2 or x>3, \cup   Region          a 2 x 2 matrix            Matrix
    y=2x, AB=4, 2x+z=1             Equation        x=1,y=2   (x,y)=(1,2)     Record
    3:4                            Ratio           1011_2                    BaseNumber
    east                           Words           x=3=5                     Contradiction

Two shapes are compared in `bard_ray.verify.math.judge`.
"""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.verify.math.formula import Formula


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value, and the unit after it in canonical spelling."""

    formula: Formula
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Tuple:
    """Values in order."""

    items: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """Values in braces, in any order."""

    items: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Several answers without brackets, in any order: the solutions of an equation."""

    items: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of values."""

    rows: tuple[tuple[Formula, ...], ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval of the real line; its ends are numbers or plus or minus infinity."""

    low: Formula
    high: Formula
    closed_low: bool
    closed_high: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A set of real numbers as intervals; `name` is the variable if given as an inequality."""

    intervals: tuple[Interval, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    r"""The left side of an equation.

    Attributes:
        text: as written, normalized.
        formula: None if it is outside the grammar of formulas, like `f(x)` and `\angle A`.
        names: whether it names a value (see `bard_ray.verify.math.names`).
    """

    text: str
    formula: Formula | None
    names: bool

    @property
    def variables(self) -> frozenset[str]:
        """Names of its variables; empty if they are unknown."""
        return self.formula.variables if self.formula else frozenset()

    @property
    def computed(self) -> bool:
        """Whether it is a value without variables."""
        return self.formula is not None and not self.names and not self.variables


@dataclass(frozen=True, slots=True)
class Equation:
    """Two sides; the right one may be any shape: `D=(0,1)`."""

    left: Left
    right: Shape

    @property
    def right_variables(self) -> frozenset[str]:
        """Variables of the right side if it is a scalar."""
        return self.right.formula.variables if isinstance(self.right, Scalar) else frozenset()


@dataclass(frozen=True, slots=True)
class Record:
    """One value for each of several names, in any order of the names.

    `ordered` if it was written as a tuple, `(x,y)=(1,2)`, in the order of the question.
    """

    fields: tuple[Equation, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A chain of equalities that offers more than one value."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two or more parts."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class BaseNumber:
    """Digits with the base as index."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Words:
    """Two or more letters; `product` is the alternative reading as a product of variables."""

    text: str
    product: Formula | None = None


Shape = (
    Scalar
    | Tuple
    | Set
    | Listing
    | Matrix
    | Region
    | Equation
    | Record
    | Contradiction
    | Ratio
    | BaseNumber
    | Words
)
