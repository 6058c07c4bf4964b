"""The reader of our own against the truth, and against math-verify where that is right.

Pairs are generated with known truth: one formula written in two ways, or two formulas that differ.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import LatexExtractionConfig, parse, verify

from bard_ray.verify.math.finding import Finding
from bard_ray.verify.math.judge import judge
from bard_ray.verify.math.normalize import normalize

SETTINGS = settings(max_examples=80, deadline=None, derandomize=True)


def math_verify_says(answer: str, gold: str) -> bool:
    config = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    golds, answers = (
        parse(rf"\boxed{{{text}}}", [config], "no_fallback", parsing_timeout=None)
        for text in (gold, answer)
    )
    return verify(golds, answers, timeout_seconds=None, allow_set_relation_comp=True)


def finding(answer: str, gold: str) -> Finding:
    return judge(normalize(answer), normalize(gold)).finding


small = st.integers(1, 9)
signed = st.integers(-9, 9).filter(bool)
prime = st.sampled_from([2, 3, 5, 7])


@st.composite
def surds(draw):
    a, b, c, d = draw(signed), draw(prime), draw(signed), draw(st.integers(2, 9))
    root = rf"\sqrt{{{b}}}"
    gold = rf"\frac{{{a}{c:+d}{root}}}{{{d}}}"
    return (
        gold,
        rf"\dfrac{{{c}{root}}}{{{d}}}+\frac{{{a}}}{{{d}}}",
        rf"\frac{{{a + 1}{c:+d}{root}}}{{{d}}}",
    )


@st.composite
def multiples_of_pi(draw):
    a, b = draw(small), draw(st.integers(2, 9))
    return (
        rf"\frac{{{a}\pi}}{{{b}}}",
        rf"\frac{{{2 * a}}}{{{2 * b}}} \pi",
        rf"\frac{{\pi}}{{{b + 9}}}",
    )


@st.composite
def polynomials(draw):
    a, b, c = draw(signed), draw(signed), draw(signed)
    gold = f"{a}x^2{b:+d}x{c:+d}"
    return gold, f"{c}{a:+d}x^{{2}}{b:+d} x", f"{c}{a:+d}x^{{2}}{b + 10:+d}x"


@st.composite
def products(draw):
    a, b = draw(small), draw(small)
    gold = rf"x^2+{a + b}x+{a * b}"
    return gold, rf"(x+{a})(x+{b})", rf"(x+{a})(x+{b + 1})"


@st.composite
def tuples(draw):
    a, b, c = draw(signed), draw(signed), draw(st.integers(20, 30))
    half = rf"\frac{{{c}}}{{2}}"
    return rf"({a}, {b}, {half})", rf"\left({2 * a}/2,{b},{c / 2}\right)", rf"({a}, {half}, {b})"


@st.composite
def sets(draw):
    a, b = draw(signed), draw(st.integers(10, 19))
    return (
        rf"\{{{a}, {b}, \sqrt 2\}}",
        rf"\{{\sqrt{{2}},{a},{b}\}}",
        rf"\{{\sqrt{{2}},{a},{b + 1}\}}",
    )


@st.composite
def intervals(draw):
    a, b = draw(signed), draw(st.integers(10, 19))
    return rf"[{a}, {b})", rf"{a} \le x < {b}", rf"{a} < x < {b}"


@st.composite
def trigonometry(draw):
    n, a = draw(st.integers(1, 5)), draw(small)
    return rf"{a}\sin {n}x", rf"\sin({n}x)\cdot {a}", rf"{a}\sin {n + 1}x"


@st.composite
def exponentials(draw):
    a, b = draw(small), draw(prime)
    return rf"{a}e^{{{b}t}}", rf"e^{{{b}t}} \cdot {a}", rf"{a}e^{{{b + 1}t}}"


families = st.one_of(
    surds(),
    multiples_of_pi(),
    polynomials(),
    products(),
    tuples(),
    sets(),
    intervals(),
    trigonometry(),
    exponentials(),
)


@SETTINGS
@given(families)
def test_says_the_truth_and_what_math_verify_says_where_that_is_true(pair) -> None:
    gold, same, different = pair
    for answer, truth in ((same, True), (gold, True), (different, False)):
        ours = finding(answer, gold)
        assert ours in (Finding.EQUAL if truth else Finding.DIFFERENT, Finding.UNDECIDED)
        if math_verify_says(answer, gold) is truth and ours is not Finding.UNDECIDED:
            assert (ours is Finding.EQUAL) is truth


@SETTINGS
@given(families)
def test_decides_almost_all_of_them(pair) -> None:
    gold, same, different = pair
    assert finding(same, gold) is Finding.EQUAL
    assert finding(different, gold) is Finding.DIFFERENT


@pytest.mark.parametrize(
    ("answer", "gold", "truth"),
    [
        (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", True),
        (r"3\sqrt{13}", r"\sqrt{117}", True),
        (r"6-5i", r"-5i+6", True),
        (r"(3, \frac{\pi}{2})", r"\left( 3, \frac{\pi}{2} \right)", True),
        (r"p-q", r"q-p", False),
        (r"\frac{14}{3}", "4.666667", True),
        (r"\text{Evelyn}", "Evelyn", True),
        (r"\text{Evelyn}", "Angela", False),
        (r"-\frac{1}{2}", r"\frac{-1}{2}", True),
        (r"[-2,7]", r"-2\le x\le 7", True),
        (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}", True),
        (r"11\sqrt2", r"\sqrt{242}", True),
        (r"\frac{3}{56}", "0.053571", True),
        (r"x^3+3x-6", r"x^3-6+3x", True),
        (r"1,-2", "-2,1", True),
        (r"6+9i", r"6-9i", False),
        (
            r"\begin{pmatrix} -2 & 0 \\ 0 & 1 \end{pmatrix}",
            r"\begin{pmatrix}-2&0\\0&1\end{pmatrix}",
            True,
        ),
        (r"2\cdot 3^{n-1}", r"\frac{2}{3}\cdot 3^n", True),
        (r"\ln 4", r"2\ln 2", True),
        (r"\log_2 3", r"\frac{\ln 3}{\ln 2}", True),
        (r"e^{2x}", r"(e^x)^2", True),
        (r"\binom{7}{3}", "35", True),
        (r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}", True),
        (r"\frac{n(n+1)}{2}", r"\frac{n^2-n}{2}", False),
        (r"x=\frac{1}{2}", r"0.5", True),
        (r"(-\infty,-1)\cup(1,\infty)", r"(1,\infty)\cup(-\infty,-1)", True),
        (r"5\sqrt{2}\text{ cm}", r"\sqrt{50}", True),
        (r"\tan^{-1} 1", r"\frac{\pi}{4}", True),
        (r"|{-3}|", "3", True),
        (r"2^{100}", r"1267650600228229401496703205376", True),
        (r"2^{100}", r"1267650600228229401496703205377", False),
        (r"\sqrt{2}+10^{-12}", r"\sqrt{2}", False),
    ],
)
def test_realistic_pairs(answer: str, gold: str, truth: bool) -> None:
    ours = finding(answer, gold)
    assert ours in (Finding.EQUAL if truth else Finding.DIFFERENT, Finding.UNDECIDED)
    if ours is Finding.UNDECIDED:
        assert math_verify_says(answer, gold) is truth


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            [
                r"1",
                r"2",
                r"10",
                r".",
                r",",
                r"+",
                r"-",
                r"*",
                r"/",
                r"^",
                r"_",
                r"(",
                r")",
                r"[",
                r"]",
                r"{",
                r"}",
                r"\{",
                r"\}",
                r"|",
                r"!",
                r"%",
                r"=",
                r"<",
                r">",
                r":",
                r"x",
                r"y",
                r"e",
                r"i",
                r"\pi",
                r"\frac",
                r"\sqrt",
                r"\sin",
                r"\ln",
                r"\log",
                r"\binom",
                r"\pm",
                r"\cup",
                r"\in",
                r"\infty",
                r"\text{cm}",
                r"\text{or}",
                r"^\circ",
                r"&",
                r"\\",
                r"\le",
            ]
        ),
        max_size=14,
    ),
    st.sampled_from(["5", "x+1", "(1,2)", r"\{1,2\}", "x>3", "y=2x", "3:4", "east"]),
)
def test_any_tokens_get_a_finding_and_never_raise(parts: list[str], gold: str) -> None:
    assert isinstance(finding(" ".join(parts), gold), Finding)
    assert isinstance(finding(gold, "".join(parts)), Finding)


def test_golds_differ_from_each_other() -> None:
    golds = [
        "5",
        "x",
        r"\pi",
        "(1,2)",
        r"\{1,2\}",
        "x>3",
        "y=2x",
        "3:4",
        "east",
        "1011_2",
        r"\infty",
    ]
    for a in golds:
        for b in golds:
            same = finding(a, b) is Finding.EQUAL
            in_order = {a, b} == {"(1,2)", r"\{1,2\}"}  # one may stand for the other in its order
            assert same is (a == b or in_order), (a, b)
