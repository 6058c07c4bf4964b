"""Exact comparison: what it decides, and that it decides as math-verify does wherever math-verify
is right.
"""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import LatexExtractionConfig, parse, verify

from bard_ray.verify.math.compare import compare_exact
from bard_ray.verify.math.normalize import normalize
from bard_ray.verify.math.rational import plain_number


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("033", "33"),
        ("+7", "7"),
        ("-0", "0"),
        ("\N{MINUS SIGN}3", "-3"),
        ("1,234,567", "1234567"),
        (r"1\,234\,567.5", "1234567.5"),
        ("5 000", "5000"),
        ("1{,}234", "1234"),
        ("17.", "17"),
        (".5", "0.50"),
        ("1/2", r"\frac{1}{2}"),
        (r"\dfrac{2}{4}", r"\tfrac12"),
        (r"-\frac{1}{2}", "1/-2"),
        ("0.25", "1/4"),
        ("2 1/2", "5/2"),
        ("0.333333", "1/3"),
        (r"2\frac{1}{2}", "2.5"),
        (r"-2\frac12", "-2.5"),
        ("3.5e3", "3500"),
        (r"3.5\times 10^{-3}", "0.0035"),
        (r"2 \cdot 10^3", "2000"),
        ("$5$", "5"),
        (r"\( 5 \)", "5"),
        ("**73**", "73"),
        (r"\text{east}", "east"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        ("x + 1", "x+1"),
    ],
)
def test_equal(answer: str, gold: str) -> None:
    assert compare_exact(answer, gold) is True


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("3", "5"),
        ("1/3", "1/2"),
        ("0.0000001", "0.0000002"),  # equal to math-verify, which rounds to six places
        ("2e-20", "1e-20"),
        ("0.33", "1/3"),
        ("12", "1 2/3"),
    ],
)
def test_surely_different(answer: str, gold: str) -> None:
    assert compare_exact(answer, gold) is False


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("x", "y"),
        ("1+x", "x+1"),
        ("9", r"9\%"),
        ("12 m", "12"),
        ("200,100", "100,200"),
        ("1/0", "2/0"),
        ("12", "1 2"),
        ("0,123", "123"),
        ("", ""),
        ("9" * 5000, "1"),
        ("1e999999999", "1"),
        ("0.333...", "0.333"),
    ],
)
def test_undecided(answer: str, gold: str) -> None:
    assert compare_exact(answer, gold) is None


def test_a_matrix_keeps_its_rows() -> None:
    assert normalize(r"\begin{matrix}a \\ b\end{matrix}") == r"\begin{matrix}a\\b\end{matrix}"


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        # A comma with a space separates answers, one without may separate thousands.
        ("32, 349", "32;349"),
        ("32,349", "32,349"),
        (r"32,\! 349", "32,349"),
        ("32{,}349", "32,349"),
        ("14 {, }916", "14,916"),
        ("(1, x)", "(1,x)"),
        # One bare dollar sign is a currency, two delimit a formula.
        ("$18", r"\$18"),
        ("18 $", r"18\$"),
        ("x = $18", r"x=\$18"),
        ("$18$", "18"),
        ("12 $ and $13", "12 and 13"),
        ("1$8", "1$8"),
        # Unicode in the spelling of LaTeX.
        ("x²", "x^{2}"),
        ("10⁻³", "10^{-3}"),
        ("x₁₀", "x_{10}"),
        ("15 m²", r"15\text{m}^{2}"),
        ("2½", r"2\frac{1}{2}"),
        ("5–3", "5-3"),
        # Wrappers around all of it.
        ("{(1,2)}", "(1,2)"),
        ("{1}{2}", "{1}{2}"),
        (r"\text{east}", "east"),
        (r"x=1,\quadx=2", "x=1,x=2"),
    ],
)
def test_normalized_texts(text: str, normalized: str) -> None:
    assert normalize(text) == normalized


# math-verify compares at six decimal places; two different numbers here differ by more than that.
integers = st.integers(-(10**6), 10**6)
written_integers = st.one_of(
    integers.map(str),
    integers.map("{:,}".format),
    st.builds(lambda zeros, n: "0" * zeros + str(n), st.integers(0, 3), st.integers(0, 999)),
)
written_decimals = st.builds(
    lambda n, places: f"{n / 10**places:.{places}f}", integers, st.integers(1, 4)
)
written_fractions = st.builds(
    lambda form, a, b: form.format(a, b),
    st.sampled_from(["{}/{}", "\\frac{{{}}}{{{}}}", "\\dfrac{{{}}}{{{}}}"]),
    st.integers(-99, 99),
    st.integers(1, 99),
)
numbers = st.one_of(written_integers, written_decimals, written_fractions)


def math_verify_says(answer: str, gold: str) -> bool:
    config = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    golds, answers = (
        parse(rf"\boxed{{{text}}}", [config], parsing_timeout=None) for text in (gold, answer)
    )
    return verify(golds, answers, timeout_seconds=None)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(numbers, numbers)
def test_agrees_with_math_verify_on_numbers(answer: str, gold: str) -> None:
    ours = compare_exact(answer, gold)
    assert ours is math_verify_says(answer, gold) or (ours is None and "," in answer + gold)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(numbers, st.integers(1, 9))
def test_every_way_to_write_a_number_is_equal(text: str, factor: int) -> None:
    number = plain_number(normalize(text))
    assert number is not None
    value: Fraction = number.value
    rewritten = rf"\frac{{{value.numerator * factor}}}{{{value.denominator * factor}}}"
    assert compare_exact(text, rewritten) is True
    assert math_verify_says(text, rewritten)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="0123456789,./-+ \\{}$x=frac", max_size=12), numbers)
def test_any_text_gets_an_answer(answer: str, gold: str) -> None:
    assert compare_exact(answer, gold) in (True, False, None)
    assert compare_exact(answer, gold) is compare_exact(gold, answer)
