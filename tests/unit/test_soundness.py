"""No answer passes that says less than the gold answer, or something else: generated near misses.

The grader is asked as a run asks it, math-verify included, so that a wrong verdict of either is
found. The truth of every pair follows from how it was built.
"""

from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bard_ray.records import GradeItem, Outcome
from bard_ray.verify.grade import grade

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


def correct(answer: str, gold: str) -> bool:
    return grade(GradeItem(rf"\boxed{{{answer}}}", gold, "math")).outcome is Outcome.CORRECT


letters = st.permutations(list("abcxyz"))
number = st.integers(-20, 20)
positive = st.integers(2, 20)


@st.composite
def equations(draw):
    """An equation in two variables, and what it has on its right."""
    x, y, *_ = draw(letters)
    a, b, c = draw(positive), draw(positive), draw(st.integers(0, 40))
    left = draw(
        st.sampled_from(
            [
                f"{a}{x}+{b}{y}",
                f"{x}+{y}",
                f"{x}^2+{y}^2",
                f"{x}^2-{a}{y}",
                f"{x}{y}",
                f"{a}{x}",
                f"{x}^{a}",
                rf"\frac{{{x}^2}}{{{a}}}+\frac{{{y}^2}}{{{b}}}",
                rf"({x}-{a})^2+({y}-{b})^2",
                rf"\sqrt{{{x}}}+{y}",
                rf"{a}\cdot 2^{{{x}}}",
                rf"\overline{{{x}}}+{y}",
                rf"|{x}|+|{y}|",
            ]
        )
    )
    return left, str(c), (x, y)


@settings(max_examples=30, deadline=None, derandomize=True)  # some reach math-verify
@given(equations())
def test_less_than_an_equation_does_not_pass(equation) -> None:
    left, right, (x, y) = equation
    gold = f"{left}={right}"
    assert correct(gold, gold)
    less = [
        right,
        left,
        f"{right}={right}",
        f"0+{right}={right}",
        f"{x}={right}",
        f"w={right}",
        f"f({x})={right}",
        rf"\text{{answer}}={right}",
        f"{x}",
        f"{x}={x}",
        "0=0",
        f"{x}={right},{y}={right}",
        rf"{x}\in\mathbb{{R}}",
        f"0{x}=0",
    ]
    assert [answer for answer in less if correct(answer, gold)] == []


@SETTINGS
@given(equations(), st.integers(1, 9))
def test_another_equation_does_not_pass(equation, shift: int) -> None:
    left, right, (x, y) = equation
    gold = f"{left}={right}"
    others = [
        f"{left}={int(right) + shift}",
        f"{left}+{x}={right}",
        f"{left}={right}+{y}",
        f"w({left}-{right})=0",
        f"({left})^2={right}^2+{shift}",
    ]
    assert [answer for answer in others if correct(answer, gold)] == []


@SETTINGS
@given(number, number, st.integers(1, 9))
def test_chains_pass_with_one_value_and_with_no_other(a: int, b: int, shift: int) -> None:
    value = a + b
    for chain in (f"{a}+{b}={value}", f"x={a}+{b}={value}", f"{value}=x", f"x=y={value}"):
        chain = chain.replace("+-", "-")
        assert correct(chain, str(value)), chain
        assert not correct(chain, str(value + shift)), chain
    wrong = value + shift
    for chain in (f"{a}+{b}={wrong}", f"x={value}={wrong}", f"{wrong}={value}=x"):
        chain = chain.replace("+-", "-")
        assert not correct(chain, str(wrong)), chain
        assert not correct(chain, f"x={wrong}"), chain
        assert not correct(chain, str(value)), chain


@SETTINGS
@given(st.lists(number, min_size=2, max_size=3, unique=True), st.permutations(range(3)))
def test_named_values_pass_in_any_order_but_not_exchanged(values, order) -> None:
    names = "xyz"[: len(values)]
    gold = ",".join(f"{n}={v}" for n, v in zip(names, values, strict=True))
    places = [place for place in order if place < len(values)]
    same = ", ".join(f"{names[place]}={values[place]}" for place in places)
    pair = f"({','.join(map(str, values))})"
    assert correct(same, gold)
    assert correct(same, pair)
    assert correct(pair, gold)
    rotated = values[1:] + values[:1]
    exchanged = ",".join(f"{n}={v}" for n, v in zip(names, rotated, strict=True))
    assert not correct(exchanged, gold)
    assert not correct(exchanged, pair)
    assert not correct(f"{names[0]}={values[0]}", gold)
    assert not correct(str(values[0]), gold)


@SETTINGS
@given(st.lists(st.tuples(number, number), min_size=2, max_size=3, unique=True), number)
def test_lists_of_solutions_pass_whole_and_with_their_names(pairs, other: int) -> None:
    gold = ";".join(f"p={p},q={q}" for p, q in pairs)
    swapped = sorted(pairs) != sorted((q, p) for p, q in pairs)
    assert correct(", ".join(f"({p},{q})" for p, q in reversed(pairs)), gold)
    assert correct(" or ".join(f"(p,q)=({p},{q})" for p, q in pairs), gold)
    assert correct("; ".join(f"q={q}, p={p}" for p, q in pairs), gold)
    assert not correct(", ".join(f"({p},{q})" for p, q in pairs[1:]), gold)
    assert not (swapped and correct(", ".join(f"({q},{p})" for p, q in pairs), gold))
    assume((other, other) not in pairs)
    extended = [*pairs, (other, other)]
    assert not correct(", ".join(f"({p},{q})" for p, q in extended), gold)


@SETTINGS
@given(st.integers(0, 10**6), st.integers(1, 99), st.integers(1, 9))
def test_decimal_commas_units_and_currencies_keep_the_value(whole, places, shift) -> None:
    gold = f"{whole}.{places:02}"
    for answer in (
        f"{whole},{places:02}",
        f"${gold}",
        rf"\${whole:,}.{places:02}",
        f"{gold}€",
        rf"{gold}\text{{ cm}}",
        f"x={gold}",
    ):
        assert correct(answer, gold), answer
        assert not correct(answer, f"{whole + shift}.{places:02}"), answer
        assert not correct(answer, str(whole) + f"{places:02}"), answer
    assert not correct(f"{whole}, {places:02}", gold)
    assert not correct(f"{whole},{places:02},{shift}", gold)


rationals = st.fractions(min_value=-50, max_value=50, max_denominator=60)


def written(value: Fraction, form: int) -> str:
    """One of six spellings of a rational number."""
    top, bottom = value.numerator, value.denominator
    return (
        f"{top}/{bottom}",
        rf"\frac{{{top}}}{{{bottom}}}",
        rf"\dfrac{{{-top}}}{{{-bottom}}}",
        rf"{top}\cdot\frac{{1}}{{{bottom}}}",
        rf"\frac{{{top + bottom}}}{{{bottom}}}-1",
        rf"x=\frac{{{2 * top}}}{{{2 * bottom}}}",
    )[form]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(rationals, rationals, st.integers(0, 5), st.integers(0, 4))
def test_rational_numbers_are_equal_exactly_where_they_are(a, b, form: int, other: int) -> None:
    assert correct(written(a, form), written(a, other))
    assert correct(written(a, form), written(b, other)) is (a == b)


@SETTINGS
@given(st.lists(st.integers(-6, 6), min_size=3, max_size=3), st.integers(0, 2), st.integers(1, 5))
def test_polynomials_are_equal_exactly_where_they_are(roots, index: int, shift: int) -> None:
    factors = [f"(x{-root:+d})" if root else "x" for root in roots]
    a, b, c = roots
    expanded = f"x^3{-(a + b + c):+d}x^2{a * b + a * c + b * c:+d}x{-a * b * c:+d}"
    assert correct("".join(factors), expanded)
    assert correct(expanded, "".join(reversed(factors)))
    assert correct(f"y={expanded}", "f(x)=" + "".join(factors))
    moved = [root + shift * (place == index) for place, root in enumerate(roots)]
    assert not correct("".join(f"(x{-root:+d})" for root in moved), expanded)


@SETTINGS
@given(st.lists(number, min_size=2, max_size=4, unique=True), number)
def test_joined_boxes_pass_for_the_list_and_for_no_part_of_it(values, other: int) -> None:
    assume(other not in values)
    text = " and ".join(rf"\boxed{{{value}}}" for value in values)
    item = [GradeItem(text, ",".join(map(str, golds)), "math") for golds in (values, values[1:])]
    assert grade(item[0]).outcome is Outcome.CORRECT
    assert grade(item[1]).outcome is not Outcome.CORRECT
    for value in (*values, other):
        assert grade(GradeItem(text, str(value), "math")).outcome is Outcome.UNPARSABLE
    longer = GradeItem(rf"{text} and \boxed{{{other}}}", ",".join(map(str, values)), "math")
    assert grade(longer).outcome is not Outcome.CORRECT
