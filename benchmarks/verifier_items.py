r"""Answers with known verdicts: a realistic mix, and hostile texts.

Every item is built from its value, so the truth needs no grader: a correct answer is another
notation of the gold answer, a wrong one has another value. Nothing here is computed by sympy.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from bard_ray.records import AnswerKind, GradeItem

SHARES = {
    "integer": 45,
    "fraction": 15,
    "letter": 10,
    "surd": 10,
    "polynomial": 8,
    "tuple": 5,
    "interval": 4,
    "text": 3,
}
HOSTILE_SHARE = 0.02
_SENTENCES = (
    "We look at the expression step by step.",
    r"Let $x$ be the unknown, so that $x + 3 = 10$ would give $x = 7$.",
    "Substituting this back, the terms cancel.",
    r"Since $\frac{1}{2} + \frac{1}{3} = \frac{5}{6}$, the sum is smaller than one.",
    "This case cannot occur, because both factors are positive.",
    r"Hence $a^2 - b^2 = (a - b)(a + b)$ applies.",
    "There are 12 such arrangements, but symmetry halves them.",
    "Therefore we are left with a single possibility.",
)
_WORDS = ("even", "odd", "isosceles", "monday", "increasing", "parallel", "red", "ellipse")
_UNITS = ("cm", "kg", "hours", "dollars")


@dataclass(frozen=True, slots=True)
class Known:
    """An item, the family it is from, and whether its answer is right."""

    item: GradeItem
    family: str
    right: bool


def clean_items(count: int, seed: int) -> list[Known]:
    """The mix, half of it right; the same for the same seed."""
    generator = random.Random(seed)
    families = generator.choices(list(SHARES), weights=list(SHARES.values()), k=count)
    return [_item(family, generator) for family in families]


def with_hostile(items: list[Known], seed: int) -> list[Known]:
    """The same items with `HOSTILE_SHARE` of them replaced, at random places."""
    generator = random.Random(seed)
    mixed = list(items)
    places = generator.sample(range(len(items)), round(HOSTILE_SHARE * len(items)))
    for number, place in enumerate(places):
        answer = HOSTILE[number % len(HOSTILE)]
        mixed[place] = Known(GradeItem(answer, "5", "math"), "hostile", right=False)
    return mixed


def _item(family: str, generator: random.Random) -> Known:
    right = generator.random() < 0.5
    gold, answer, kind = _FAMILIES[family](generator, right)
    text = f"{_filler(generator)} The answer is $\\boxed{{{answer}}}$."
    return Known(GradeItem(text, gold, kind), family, right)


def _filler(generator: random.Random) -> str:
    """100 to 2000 characters of reasoning without a box."""
    wanted = generator.randint(100, 1950)
    text = generator.choice(_SENTENCES)
    while len(text) < wanted:
        text += " " + generator.choice(_SENTENCES)
    return text


_Spelt = tuple[str, str, AnswerKind]


def _integer(g: random.Random, right: bool) -> _Spelt:
    value = g.choice((g.randint(0, 999), g.randint(-500, 500), g.randint(1000, 10**7)))
    said = value if right else value + g.choice((-10, -1, 1, 2, 7))
    spelling = g.choice((str(said), str(said), str(said), f"{said:,}", f" {said} "))
    return str(value), spelling, "integer" if g.random() < 0.5 else "math"


def _fraction(g: random.Random, right: bool) -> _Spelt:
    bottom = g.choice((2, 4, 5, 8, 20, 25, 3, 7, 11))
    top = g.randint(1, 60) * bottom + g.randint(1, bottom - 1)
    said = top if right else top + g.choice((1, 2, -1))
    factor = g.choice((1, 1, 2, 3))
    spellings = [
        rf"\frac{{{said * factor}}}{{{bottom * factor}}}",
        rf"\dfrac{{{said}}}{{{bottom}}}",
        f"{said}/{bottom}",
    ]
    decimal = f"{said / bottom:g}"
    if 1000 % bottom == 0:
        spellings += [decimal, decimal]
    shared = gcd(top, bottom)
    return (
        rf"\frac{{{top // shared}}}{{{bottom // shared}}}",
        g.choice(spellings),
        "math",
    )


def _letter(g: random.Random, right: bool) -> _Spelt:
    gold = g.choice("ABCD")
    said = gold if right else g.choice([letter for letter in "ABCD" if letter != gold])
    return gold, g.choice((said, f"({said})", rf"\text{{{said}}}")), "choice"


def _surd(g: random.Random, right: bool) -> _Spelt:
    a, b = g.randint(2, 12), g.choice((2, 3, 5, 6, 7, 10))
    said = a if right else a + g.choice((-1, 1, 3))
    if g.random() < 0.4:
        circular = (rf"{said}\pi", rf"\pi\cdot {said}", rf"\frac{{{2 * said}\pi}}{{2}}")
        return rf"{a}\pi", g.choice(circular), "math"
    spellings = (
        rf"{said}\sqrt{{{b}}}",
        rf"\sqrt{{{said * said * b}}}",
        rf"\frac{{{said * b}}}{{\sqrt{{{b}}}}}",
        rf"\sqrt{{{b}}} \cdot {said}",
    )
    return rf"{a}\sqrt{{{b}}}", g.choice(spellings), "math"


def _polynomial(g: random.Random, right: bool) -> _Spelt:
    """(px + q)(rx + s), expanded in the gold answer."""
    p, q, r, s = (g.randint(1, 5) for _ in range(4))
    a, b, c = p * r, p * s + q * r, q * s
    said = c if right else c + g.choice((1, 2, -1))
    spellings = [f"{a}x^2+{b}x+{said}", f"{said}+{b}x+{a}x^2", f"{b}x + {a}x^2 + {said}"]
    if right:
        spellings += [f"({p}x+{q})({r}x+{s})"]
    return f"{a}x^2+{b}x+{c}", g.choice(spellings), "math"


def _tuple(g: random.Random, right: bool) -> _Spelt:
    values = g.sample(range(-20, 60), 3)
    said = list(values)
    if not right:
        said[g.randrange(3)] += 100
    if g.random() < 0.5:
        return (
            f"({values[0]},{values[1]})",
            f"({said[0]}, {said[1]})" if right else (f"({values[1]}, {values[0]})"),
            "math",
        )
    g.shuffle(said)
    return rf"\{{{','.join(map(str, values))}\}}", rf"\{{{', '.join(map(str, said))}\}}", "math"


def _interval(g: random.Random, right: bool) -> _Spelt:
    a = g.randint(-9, 9)
    b = a + g.randint(1, 12)
    end = b if right else b + 1
    if g.random() < 0.5:
        return f"[{a},{b})", rf"\left[{a}, {end}\right)", "math"
    return (
        rf"(-\infty,{a}]\cup[{b},\infty)",
        rf"(-\infty, {a}] \cup [{end}, \infty)",
        "math",
    )


def _text(g: random.Random, right: bool) -> _Spelt:
    if g.random() < 0.5:
        gold, other = g.sample(_WORDS, 2)
        return gold, rf"\text{{{gold if right else other}}}", "string"
    value, unit = g.randint(2, 400), g.choice(_UNITS)
    said = value if right else value + 1
    return rf"{value}\text{{ {unit}}}", rf"{said} \text{{ {unit}}}", "math"


_FAMILIES: dict[str, Callable[[random.Random, bool], _Spelt]] = {
    "integer": _integer,
    "fraction": _fraction,
    "letter": _letter,
    "surd": _surd,
    "polynomial": _polynomial,
    "tuple": _tuple,
    "interval": _interval,
    "text": _text,
}


def _box(answer: str) -> str:
    return rf"\boxed{{{answer}}}"


# What a policy may write by chance, by repetition or on purpose; none of it equals the gold
# answer, 5. Towers and factorials, sums and integrals, deep nesting, long lists, endless
# repetition, strange characters.
HOSTILE: tuple[str, ...] = (
    _box("9^{9^{9^9}}"),
    _box("9**9**9**9"),
    _box("2^{10^9}"),
    _box("2^{2^{4^{8^{16}}}}"),
    _box("(10^7)!"),
    _box("((10!)!)!"),
    _box(r"\Gamma(10^9)"),
    _box(r"\binom{10^9}{5\cdot 10^8}"),
    _box(r"\sum_{n=1}^{10^9}\sin n"),
    _box(r"\prod_{k=1}^{10^8} k"),
    _box(r"\int_0^1 \frac{\sin(x^x)}{\sqrt{1+x^7}}\,dx"),
    _box("(a+b+c+d+e)^{30}"),
    _box("(" * 40 + "1" + ")" * 40),
    _box("{" * 40 + "1" + "}" * 40),
    _box("(" * 300),
    _box(r"\frac{1}{" * 100 + "2" + "}" * 100),
    _box(r"\sqrt{1+" * 60 + "1" + "}" * 60),
    _box("+".join(f"x^{{{n}}}" for n in range(400))),
    _box(r"\{" + ",".join(rf"\sqrt{{{n}}}" for n in range(400)) + r"\}"),
    _box("1+" * 200 + "1"),
    _box("7" * 500),
    _box("1.0000001^{10^{13}}"),
    _box(r"x^{x^{x^x}}=\cos(\tan(x^5))"),
    _box(
        r"\begin{pmatrix}"
        + r"\\".join("&".join(f"a_{{{r}{c}}}" for c in range(7)) for r in range(7))
        + r"\end{pmatrix}^{-1}"
    ),
    r"\boxed{" * 5000,
    r"\( " * 8000,
    r"\[ " * 8000,
    "1 " * 8000,
    "1+" * 8000,
    "answer " * 3000 + _box("6"),
    _box("\x00" * 50 + "\u202e" * 50 + "6"),
    _box("__import__('os').system('true')"),
)
