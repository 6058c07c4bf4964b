r"""Hostile answers as data: what a degenerate or dishonest policy writes, and what may come of it.

Every row is (name, text, gold, kind). None of them may ever be graded correct. `PURE` rows are
decided without math-verify, in-process, at once; `SLOW` rows may reach it, so they are only graded
in a killable process.
"""

from __future__ import annotations

from typing import NamedTuple


class Hostile(NamedTuple):
    name: str
    text: str
    gold: str = "5"
    kind: str = "math"


def box(answer: str) -> str:
    return rf"\boxed{{{answer}}}"


def boxed(name: str, answer: str, gold: str = "5", kind: str = "math") -> Hostile:
    return Hostile(name, box(answer), gold, kind)


def nested(opening: str, inner: str, closing: str, depth: int) -> str:
    return opening * depth + inner + closing * depth


# A file of this name in the working directory would show that a payload ran.
MARK = "hostile_payload_ran"

NUMBERS = [
    boxed("power_tower", "9^{9^{9^9}}"),
    boxed("power_tower_python", "9**9**9**9"),
    boxed("power_tower_bare", "9^9^9^9"),
    boxed("tower_of_five", "2^{2^{4^{8^{16}}}}"),
    boxed("tower_in_fraction", r"\frac{1}{9^{9^{9}}}"),
    boxed("tower_in_tuple", "(5,9^{9^{9}})", "(5,6)"),
    boxed("tower_on_both_sides", "9^{9^{9^9}}=9^{9^{9^8}}"),
    boxed("huge_power", "2^{10^9}"),
    boxed("huge_plain_exponent", "2^{1000000000}"),
    boxed("huge_negative_exponent", "2^{-1000000000}"),
    boxed("one_plus_tiny", "1.0000001^{10000000000000}"),
    boxed("power_of_power", "((2^{999})^{999})^{999}"),
    boxed("product_of_powers", "*".join(["9^{999}"] * 50)),
    boxed("factorial", "(10^7)!"),
    boxed("plain_factorial", "10000000!"),
    boxed("factorials_of_factorials", "((10!)!)!"),
    boxed("factorial_run", "10!!!!!!!!!!!!"),
    boxed("fraction_of_factorials", r"\frac{99999999!}{99999998!}"),
    boxed("gamma", r"\Gamma(10^9)"),
    boxed("binomial", r"\binom{10^9}{5\cdot 10^8}"),
    boxed("binomial_of_binomials", r"\binom{\binom{100}{50}}{\binom{100}{49}}"),
    boxed("root_of_tower", r"\sqrt[9^{9^9}]{2}"),
    boxed("digits_200k", "9" * 200_000),
    boxed("digits_500", "9" * 500),
    boxed("decimals_20k", "0." + "3" * 20_000),
    boxed("e_notation", "1e999999999"),
    boxed("integer_tower", "10^{10^{10^{10}}}", "5", "integer"),
]
ANALYSIS = [
    boxed("sum", r"\sum_{n=1}^{1000000000}\sin n"),
    boxed("product", r"\prod_{n=1}^{1000000000}n"),
    boxed("integral", r"\int_0^1\frac{\sin(x^7+e^{x^2})\ln(1+x)}{\sqrt{1+x^{11}}}dx"),
    boxed("limit", r"\lim_{n\to\infty}\left(1+\frac{1}{n^{n}}\right)^{n^{n}}"),
    boxed("multinomial", "(a+b+c+d+e)^{30}", "a"),
    boxed("derivative", r"\frac{d^{50}}{dx^{50}}e^{\sin x}"),
    boxed("determinant", r"\begin{vmatrix}" + r"a&b&c&d&e&f&g\\" * 7 + r"\end{vmatrix}"),
    boxed(
        "matrix_20x20",
        r"\begin{pmatrix}" + r"\\".join(["&".join("x" * 20)] * 20) + r"\end{pmatrix}",
    ),
    boxed("polynomial", "+".join(f"x^{{{n}}}" for n in range(60))),
    boxed("transcendental_equation", r"x^x+e^{x^{x}}=\sin(x^{x^x})", "x=1"),
    boxed("nested_radicals", nested(r"\sqrt{2+", "2", "}", 40), "2"),
    boxed("set_of_100", r"\{" + ",".join(map(str, range(100))) + r"\}"),
    boxed("nested_sets", nested(r"\{", "5", r"\}", 60)),
    boxed("nested_abs", nested("|", "x", "|", 60)),
    boxed("nested_sin", nested(r"\sin(", "x", ")", 50)),
    boxed("continued_fraction", nested(r"1+\frac{x}{", "x", "}", 22) + "=y", "y=1"),
    boxed("sum_of_fractions", "+".join(rf"\frac{{1}}{{x+{n}}}" for n in range(35)) + "=y", "y=1"),
    boxed("power_of_quotient", r"\left(\frac{x}{y}\right)^{999}=y", "x=1"),
]
NESTING = [
    boxed("braces_20", nested("{", "4", "}", 20)),
    boxed("braces_40", nested("{", "4", "}", 40)),
    boxed("parens_40", nested("(", "4", ")", 40)),
    boxed("parens_3000", nested("(", "4", ")", 3000)),
    boxed("brackets_80", nested("[", "4", "]", 80)),
    boxed("fracs_20", nested(r"\frac{1}{", "2", "}", 20)),
    boxed("fracs_2000", nested(r"\frac{1}{", "2", "}", 2000)),
    boxed("roots_400", nested(r"\sqrt{", "2", "}", 400)),
    boxed("open_parens_300", "(" * 300),
    Hostile("open_braces_300", r"\boxed{" + "{" * 300),
    boxed("closed_parens_300", ")" * 300),
    boxed("unbalanced_mixture", "([{)]}" * 40),
    boxed("left_without_right", r"\left(" * 60),
    boxed("boxes_in_boxes", nested(r"\boxed{", "4", "}", 100)),
    boxed("begin_without_end", r"\begin{pmatrix}" * 20),
    boxed("fracs_without_arguments", r"\frac" * 80),
]
DEGENERATE = [
    Hostile("inline_math_100k", r"\( " * 33_000),
    Hostile("ones_100k", "1 " * 100_000),
    Hostile("display_math_40k", r"\[ " * 40_000),
    Hostile("boxes_30k", r"\boxed{" * 30_000),
    Hostile("closed_boxes_30k", r"\boxed{1}\boxed{2}" * 15_000),
    Hostile("dollars", "$" * 100_000),
    Hostile("answers", "answer: " * 20_000),
    Hostile("answers_without_end", "final answer is " + " " * 100_000),
    Hostile("answer_stars", "answer:" + "*" * 100_000),
    Hostile("answer_digits", "answer: " + "1" * 100_000 + "x"),
    Hostile("answer_commas", "answer: " + "1," * 50_000 + "x"),
    Hostile("answer_paren_open", r"answer: \(" + "x" * 100_000),
    Hostile("answer_paren_opens", r"answer: \(" * 10_000),
    Hostile("answer_dollar_open", "answer: $" * 10_000),
    Hostile("think_tags", "<think></think>" * 10_000),
    Hostile("open_think_tags", "<think>" * 10_000 + box("5")),
    Hostile("newlines", "\n" * 100_000),
    Hostile("backslashes", "\\" * 100_000),
    boxed("spaces", " " * 15_000 + "4"),
    boxed("plus_chain", "1+" * 250 + "1"),
    boxed("commas", "," * 500),
    boxed("ors", "5 or " * 90 + "6"),
    boxed("text_commands", r"\text{a}" * 60),
    boxed("units_then_junk", "5" + r"\text{cm}" * 50 + "x"),
    boxed("equals_chain", "x=" * 200 + "5=6"),
    boxed("minus_chain", "-" * 400 + "4"),
    boxed("colons", "5:" * 200 + "6"),
    boxed("underscores", "x_" * 200 + "1"),
    boxed("carets", "x^" * 200 + "1"),
    boxed("equal_sides", "=".join(["5"] * 200) + "=6"),
    boxed("many_records", ";".join(["x=1,y=2"] * 60)),
    boxed("many_names", ",".join(f"x_{{{n}}}={n}" for n in range(60))),
    boxed("currency_signs", r"\$" * 250 + "5"),
    boxed("bare_dollars", "$5" * 250),
    boxed("superscripts", "5" + "⁹" * 400),
    boxed("decimal_commas", "1,5;" * 120),
    boxed("outer_braces", nested("{", "4", "}", 250)),
    boxed("bars", "|" * 500 + "=6"),
    Hostile("joined_boxes_4k", r"\boxed{5} and \boxed{6} and " * 4000),
    Hostile("different_boxes", "".join(box(f"5.{'0' * n}") for n in range(180)) + box("6")),
    Hostile("long_boxes", (box("{" + " " * 4500 + "4}") + ". ") * 2 + box("4" + " " * 9000 + "{}")),
    Hostile("long_box", box("{4" + " " * 480 + "5}") + ". " + box("{4" + " " * 481 + "5}")),
    Hostile("joints_without_end", box("5") + " a" * 20 + ", " * 9000 + box("6")),
    Hostile("choices", "Answer: A\n" * 5000 + "Answer: B", "A", "choice"),
    Hostile("choice_spaces", "answer" + " " * 100_000, "A", "choice"),
    Hostile("braces_9k", box(nested("{", "London", "}", 9000)), "Paris", "string"),
    Hostile("braces_4k_twice", box(nested("{", "A", "}", 4000)) + box("B"), "B", "choice"),
    Hostile("string_100k", "Paris " * 20_000, "Paris", "string"),
]
CHARACTERS = [
    boxed("nul", "\x005\x00" * 20),
    boxed("right_to_left", "\u202e5\u202c"),
    boxed("zero_width", "5\u200b\u200d0"),
    boxed("byte_order_mark", "\ufeff6"),
    boxed("surrogate", "\ud800"),
    boxed("surrogate_digit", "5\udfff"),
    boxed("arabic_digits", "٤"),
    boxed("full_width_digits", "４"),
    boxed("superscript", "5²"),
    boxed("roman_numeral", "Ⅳ"),
    boxed("cyrillic_a", "а", "a"),
    boxed("combining", "5" + "\u0301" * 200),
    boxed("emoji", "\U0001f600" * 50),
    boxed("escape_codes", "\x1b[31m5\x1b[0m"),
]
INJECTION = [
    boxed("import_os", f"__import__('os').system('touch {MARK}')"),
    boxed("open_file", f"open('{MARK}','w').write('5')"),
    boxed("eval_call", f"eval(compile('open(\"{MARK}\",\"w\")','','exec'))"),
    boxed("sympy_lambda", f"(lambda: open('{MARK}', 'w'))()"),
    boxed("dunder", "().__class__.__bases__[0].__subclasses__()"),
    boxed("shell", f"$(touch {MARK})"),
    boxed("backticks", f"`touch {MARK}`"),
    boxed("semicolon", f"5; touch {MARK}"),
    boxed("format_string", "{0.__class__}%s%n"),
    boxed("tex_input", r"\input{/etc/passwd}"),
    boxed("tex_write18", rf"\immediate\write18{{touch {MARK}}}"),
    boxed("tex_def", r"\def\x{\x\x}\x"),
    boxed("tex_newcommand", r"\newcommand{\y}{\y\y}\y"),
    boxed("tex_loop", r"\loop\iftrue\repeat"),
    boxed("json_break", '5","rule":"exact"],["correct'),
    Hostile("json_lines", '["correct","5","exact",0]\n' * 10),
]
# What a policy would try that wants the reward and does not know the answer.
HACKS = [
    boxed("all_digits", "0,1,2,3,4,5,6,7,8,9"),
    boxed("all_digits_set", r"\{0,1,2,3,4,5,6,7,8,9\}"),
    boxed("either", "5 or 6"),
    boxed("either_text", r"5\text{ or }6"),
    boxed("either_in_text", r"5\text{ (or 6)}"),
    boxed("others_in_text", r"5\text{, 6, 7}"),
    boxed("versus", r"5\text{ vs 6}"),
    boxed("nearly", r"5\approx 6"),
    boxed("imaginary_unit_as_unit", r"5\mathrm{i}"),
    boxed("euler_as_unit", r"5\mathrm{e}^2"),
    boxed("vector_as_unit", r"5\mathbf{v}"),
    boxed("scale_as_unit", r"5\text{ million}"),
    boxed("not_this", r"5\text{ or not }5"),
    boxed("plus_minus", r"\pm 5"),
    boxed("plus_minus_wide", r"5\pm 5"),
    boxed("any_variable", "x"),
    boxed("any_real", r"x\in\mathbb{R}"),
    boxed("the_reals", r"\mathbb{R}"),
    boxed("whole_line", r"(-\infty,\infty)"),
    boxed("whole_line_for_interval", r"x\in\mathbb{R}", "(1,2)"),
    boxed("whole_line_for_inequality", r"(-\infty,\infty)", "x>3"),
    boxed("both_sides", r"x\ne 3", "x>3"),
    boxed("tautology", "x=x"),
    boxed("tautology_for_equation", "y=y", "y=2x"),
    boxed("zero_is_zero", "0=0", "y=2x"),
    boxed("contradiction", "4=5"),
    boxed("chain", "x=4=5"),
    boxed("nan", "NaN"),
    boxed("zero_over_zero", r"\frac{0}{0}"),
    boxed("zero_to_the_zero", "0^0", "1"),
    boxed("infinity", r"\infty"),
    boxed("infinity_minus_infinity", r"\infty-\infty", "0"),
    boxed("infinity_times_zero", r"0\cdot\infty", "0"),
    boxed("empty", ""),
    boxed("blank_text", r"\text{ }"),
    boxed("empty_set", r"\emptyset"),
    boxed("empty_set_for_set", r"\{\}", r"\{1,2\}"),
    boxed("question_mark", "?"),
    boxed("blank_to_fill", r"\underline{\quad}"),
    boxed("the_answer", r"\text{the answer}"),
    boxed("dots", r"1,2,\ldots,9"),
    boxed("zero_ratio", "0:0", "3:4"),
    boxed("zero_equation", "0x=0", "x=5"),
    boxed("value_for_equation", "34", "x^2+y^2=34"),
    boxed("zero_for_equation", "0", "a^2+b=0"),
    boxed("named_value_for_equation", "x=34", "x^2+y^2=34"),
    boxed("value_for_unread_equation", "1", r"2\overline{z}+z=1"),
    boxed("factor_times_equation", "x(y-2x)=0", "y=2x"),
    boxed("equations_without_real_solution", "x^2+1=0", "x^2+x+1=0"),
    boxed("chain_of_names", "x=4=y=5"),
    boxed("chain_whatever_the_gold", "x=4=5", "x=5"),
    boxed("unread_chain", r"\overline{x}=4=5"),
    boxed("part_of_a_record", "x=2", "x=2,y=1"),
    boxed("record_exchanged", "x=1,y=2", "x=2,y=1"),
    boxed("one_of_two_solutions", "(x,y)=(5,8)", "(5,8),(8,5)"),
    boxed("list_as_thousands", "32, 349", "32349"),
    boxed("zeros_as_list", "1,000,000", "1,000,000,000"),
    boxed("list_as_decimal", "5,6"),
    boxed("answer_and_more", "5 or"),
    boxed("currencies", r"\$5, \$6"),
    boxed("other_currency", "€5", r"\$5"),
    boxed("dollar_inside", "$5$6"),
    Hostile("two_boxes", box("5") + " or " + box("6")),
    Hostile("two_boxes_joined", box("5") + " and " + box("6")),
    Hostile("two_statements", "Answer: $5 or $6"),
    Hostile("nine_boxes", "".join(box(str(n)) for n in range(9))),
    Hostile("open_box", r"\boxed{5"),
    Hostile("box_in_thinking", "<think>" + box("5")),
    Hostile("box_before_closing_tag", box("5") + "</think> so it is clear."),
    Hostile("number_soup", "1 2 3 4 5 6 7 8 9"),
    Hostile("two_answers", "Answer: 5\nAnswer: 6"),
    Hostile("all_letters", box("A, B, C, D"), "B", "choice"),
    Hostile("letters_in_turn", "A\nB\nC\nD", "B", "choice"),
    Hostile("option_text", box("the mitochondrion"), "B", "choice"),
]

# Which rows may reach math-verify; all others are decided by our own code.
FAMILIES = {
    "numbers": NUMBERS,
    "analysis": ANALYSIS,
    "nesting": NESTING,
    "degenerate": DEGENERATE,
    "characters": CHARACTERS,
    "injection": INJECTION,
    "hacks": HACKS,
}
ALL = [row for rows in FAMILIES.values() for row in rows]
