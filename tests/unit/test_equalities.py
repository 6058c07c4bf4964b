"""Chains of equalities, names of values, and cutting a text at its top level."""

import pytest

from bard_ray.verify.math.finding import Finding
from bard_ray.verify.math.judge import judge
from bard_ray.verify.math.names import canonical, is_name
from bard_ray.verify.math.normalize import normalize
from bard_ray.verify.math.split import chain_sides, joined_digits, list_parts


def finding(answer: str, gold: str) -> Finding:
    return judge(normalize(answer), normalize(gold)).finding


@pytest.mark.parametrize(
    ("chain", "value"),
    [
        ("2+3=5", "5"),
        (r"\sqrt{16}=4", "4"),
        (r"x=2\cdot3=6", "6"),
        (r"\frac{6}{15}=\frac25=0.4", r"\frac25"),
        (r"A=\pi r^2=9\pi", r"9\pi"),
        (r"S=\frac12\cdot6\cdot4=12\text{ cm}^2", "12"),
        (r"\angle ABC=180^\circ-120^\circ=60^\circ", "60"),
        ("6=x", "6"),
        (r"2\cdot3=6=x", "6"),
        ("(x+1)^2=x^2+2x+1", "x^2+2x+1"),
        ("f(x)=(x+1)^2=x^2+2x+1", "(x+1)^2"),
        (r"x=\frac32\approx1.5", r"\frac32"),
        (r"x\approx1.5", "1.5"),
        ("x=y=5", "5"),
        ("AB=AC+CB=5", "5"),
        ("m+n=17", "17"),
        ("a^2+b^2=(a+b)^2-2ab=20", "20"),
        ("f(1)+2f(2)=5", "5"),
        (r"\angle A+\angle B=90^\circ", "90"),
        (r"\overline{z}+z=4", "4"),
        (r"x^2=25", "25"),
        ("C_5^1=5", "5"),
        (r"\sin^2 x+\cos^2 x=1", "1"),
        ("x-x+5=5", "5"),
    ],
)
def test_a_chain_has_one_value_whatever_the_gold(chain: str, value: str) -> None:
    assert finding(chain, value) is Finding.EQUAL
    assert finding(chain, f"x={value}") is not Finding.CONTRADICTION
    assert finding(chain, f"({value})+1") is Finding.DIFFERENT


@pytest.mark.parametrize("gold", ["3", "5", "x=5", "x=3", "y=5", "(3,5)", "x+1", r"\{3,5\}"])
@pytest.mark.parametrize(
    "chain",
    ["3=5", "x=3=5", "x=5=3", "x=5=y=3", r"\sqrt{9}=5", r"3\approx5", "x=3=5,y=1", "2+2=5=5"],
)
def test_two_values_are_a_contradiction_whatever_the_gold(chain: str, gold: str) -> None:
    assert finding(chain, gold) is Finding.CONTRADICTION


@pytest.mark.parametrize("chain", ["x=x+1=6", "x=6+y=5", "AB=AB+1=6", "n=5n/n=6", "0x=6"])
def test_formulas_that_were_not_evaluated_are_a_contradiction(chain: str) -> None:
    value = chain.rpartition("=")[2]
    for gold in (value, f"x={value}", f"AB={value}"):
        assert finding(chain, gold) is Finding.CONTRADICTION


@pytest.mark.parametrize("answer", ["2x=10", "x+1=10", r"\frac{x}{2}=10", "x>5=10", "y!=10"])
def test_what_determines_another_value_does_not_answer_its_right_side(answer: str) -> None:
    assert finding(answer, "10") is not Finding.EQUAL


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\{x,y\}=\{2,3\}", r"\{2,3\}"),
        (
            r"\begin{pmatrix}x\\y\end{pmatrix}=\begin{pmatrix}1\\2\end{pmatrix}",
            r"\begin{pmatrix}1\\2\end{pmatrix}",
        ),
    ],
)
def test_letters_in_brackets_name_what_is_in_them(answer: str, gold: str) -> None:
    assert finding(answer, gold) is Finding.EQUAL
    left, _, right = answer.partition("=")
    exchanged = left.replace("x", "#").replace("y", "x").replace("#", "y")
    ordered = "matrix" in left
    assert (finding(f"{exchanged}={right}", gold) is Finding.EQUAL) is not ordered


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        ("(x,y)=(1,2)", "(1,2)", True),
        (r"\langle x,y\rangle=\langle 1,2\rangle", "(1,2)", True),
        (r"\langle y,x\rangle=\langle 1,2\rangle", "(1,2)", False),
        ("(y,x)=(2,1)", "(1,2)", True),
        ("(y,x)=(1,2)", "(1,2)", False),
        ("(z,y,x)=(3,2,1)", "(1,2,3)", True),
        ("(n,m)=(1,2)", "(1,2)", True),
        ("(1,2)", "(y,x)=(1,2)", True),
    ],
)
def test_coordinates_keep_their_order(answer: str, gold: str, equal: bool) -> None:
    assert (finding(answer, gold) is Finding.EQUAL) is equal


@pytest.mark.parametrize(
    "name",
    [
        "x",
        "x_1",
        r"\theta",
        "y'",
        "AB",
        "A_1B_1",
        "AB^2",
        "|AB|",
        "|z|",
        r"|\vec a+\vec b|",
        r"\overline{AB}",
        "f(x)",
        "f(-1)",
        "f(2x+1)",
        "P(A|B)",
        "a(3)",
        r"\mathrm{E}(X)",
        r"\cos A",
        r"\sin(A+B)",
        r"\angle ABC",
        r"\text{Area of }ABC",
        r"\gcd(12,18)",
        r"\vec v",
        "E[X]",
        r"\mathbb{E}[X]",
        "x^*",
        r"A\cap B",
        r"|A\cup B|",
        r"P(\text{not }A)",
        "NO",
        r"\lim_{x\to 0}\frac{\sin x}{x}",
        r"\frac{dy}{dx}",
        r"\frac{NO}{BO}",
        "a/b",
        "A:B",
        "S_{MBCN}:S",
        "[ABC]",
        "Area",
    ],
)
def test_what_names_a_value(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "side",
    [
        "",
        "2x",
        "7",
        "xy",
        "x^2",
        "x+y",
        "x-y",
        "2x+z",
        "a^2+b",
        "x(x+1)",
        "f(x)+g(x)",
        "f(x)g(x)",
        r"\frac1x",
        r"\frac{x^2}{9}+\frac{y^2}{4}",
        r"\sqrt{x}",
        "2^x",
        "|x|+|y|",
        "|x-1|",
        r"\overline{z}+z",
        r"\angle A+\angle B",
        r"\text{sum}+1",
        r"2\overline{z}",
        "(x-1)^2+(y-2)^2",
        "x" * 100,
        r"\text{a}\ne5",
        r"\text{5 or }x",
        r"\text{not }x",
        r"|\vec a\ne 5|",
    ],
)
def test_what_computes_with_values(side: str) -> None:
    assert not is_name(side)


def test_values_beyond_floats_end_no_reading() -> None:
    for left in (r"10^{308}x(1+i)", r"10^{200}x", r"10^{308}\cdot 9x+10^{308}ix"):
        assert isinstance(finding(f"{left}=5", "5"), Finding)


def test_names_in_one_spelling() -> None:
    assert canonical("V_{1}") == canonical("V_1")
    assert canonical("|BA|") == canonical(r"\overline{AB}") == canonical("AB")
    assert canonical("ab") != canonical("ba")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("x=1,y=2", ["x=1", "y=2"]),
        ("(1,2),(3,4)", ["(1,2)", "(3,4)"]),
        (r"(5,8)\text{ or }(8,5)", ["(5,8)", "(8,5)"]),
        ("1,2,and 3", ["1", "2", "3"]),
        ("p=5,q=2;p=7", ["p=5", "q=2", "p=7"]),
        (r"\{1,2\}", [r"\{1,2\}"]),
        ("f(x,y)", ["f(x,y)"]),
        (r"\begin{cases}a,b\end{cases}", [r"\begin{cases}a,b\end{cases}"]),
        (r"5\text{, 6}", [r"5\text{, 6}"]),
        ("odd", ["odd"]),
        ("(1,2", ["(1,2"]),
    ],
)
def test_parts_of_a_list(text: str, parts: list[str]) -> None:
    assert [part.text for part in list_parts(text)] == parts


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("x=2=y", ["x", "2", "y"]),
        (r"\frac{22}{7}\approx3.14", [r"\frac{22}{7}", "3.14"]),
        (r"\sum_{k=1}^{n}k=5", [r"\sum_{k=1}^{n}k", "5"]),
        ("x<=5", ["x<=5"]),
        ("x!=5", ["x!=5"]),
        ("P(X=2)", ["P(X=2)"]),
        ("x=1,y=2", ["x=1,y=2"]),
    ],
)
def test_sides_of_a_chain(text: str, sides: list[str]) -> None:
    assert [side.text for side in chain_sides(text)] == sides


@pytest.mark.parametrize(
    ("text", "no_list", "readings"),
    [
        ("1000,99", False, ["1000.99"]),
        ("1000,99", True, []),
        ("0,05", True, ["0.05"]),
        ("5,0", False, []),
        ("5,00", False, ["5.00"]),
        ("1,234", False, ["1234"]),
        ("x=1,000", False, ["x=1000"]),
        ("(1,5)", False, []),
        ("(100,200)", False, []),
        ("1,5,2", False, []),
        ("(1,5;2,5)", False, ["(1.5;2.5)"]),
    ],
)
def test_other_readings_of_a_comma(text: str, no_list: bool, readings: list[str]) -> None:
    assert joined_digits(text, no_list) == readings
