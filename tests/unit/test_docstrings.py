"""Docstrings that a reflow or an edit has cut: a summary is whole, and so is what follows it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOTS = ("bard_ray", "actors", "recipes", "benchmarks")
OPENING = {")": "(", "]": "[", "}": "{"}
# What a whole sentence does not end with.
DANGLING = re.compile(r"(,|\(|\be\.g\.|\bi\.e\.|\bsuch as|\band|\bor|\bthe|\ba|\ban|\bthan)[.:]?$")
# A paragraph that continues the sentence before it: a lower-case word, or the rest of a list.
# Symbols and signatures (`t(d) = ...`, `b' = ...`, `s is ...`, `add_request`) may begin one.
REST = re.compile(r"[a-z]{2,}[ ,.;:)]|\d+[,)\]}]|[,.;:)\]}]")
SECTION = re.compile(r"(Args|Returns|Yields|Raises|Attributes|Math|Source|Reasons|Axes)\b.*:")


def docstrings() -> Iterator[tuple[str, str]]:
    """Place and text of every docstring of modules, classes and functions."""
    for root in ROOTS:
        for file in sorted(Path(root).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(
                    node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
                ):
                    text = ast.get_docstring(node)
                    if text:
                        yield f"{file}:{getattr(node, 'lineno', 1)}", text


def balanced(text: str) -> bool:
    """Brackets close in order; half-open intervals such as [a, b) and (0, 1] count as balanced."""
    text = re.sub(r"[\[(][\w.+-]+, [\w.+-]+[\])]", "", text)
    stack: list[str] = []
    for character in text:
        if character in OPENING.values():
            stack.append(character)
        elif character in OPENING and (not stack or stack.pop() != OPENING[character]):
            return False
    return not stack


def faults(text: str) -> list[str]:
    """What is wrong with one docstring."""
    first, *rest = re.split(r"\n\s*\n", text)
    summary = " ".join(first.split())
    bare = re.sub(r"`[^`]*`", "x", summary)
    found = []
    if summary.count("`") % 2 or bare.count('"') % 2 or not balanced(bare):
        found.append("brackets or quotes of the summary are not balanced")
    if summary[-1:] not in {".", "?", "!", ":", "…"}:
        found.append("the summary does not end with punctuation")
    if DANGLING.search(bare):
        found.append("the summary ends in the middle of a sentence")
    if rest and REST.match(rest[0]):
        found.append("the second paragraph begins in the middle of a sentence")
    for paragraph in (first, *rest):
        begin, *lines = paragraph.splitlines()
        indented = any(line.startswith("    ") for line in lines[:1])
        allowed = begin.startswith(" ") or begin.endswith(":") or SECTION.match(begin)
        if indented and not allowed:
            found.append(f"the lines after {begin!r} are indented")
    return found


def test_no_docstring_is_cut():
    found = {place: what for place, text in docstrings() if (what := faults(text))}
    assert found == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('Compare with what it has, such as {"CPU".\n\n2, "GPU": 0}.', "not balanced"),
        ('Compare with what it has, such as {"CPU".\n\n2, "GPU": 0}.', "second paragraph"),
        ("What the plan (of a checked configuration.", "not balanced"),
        ("The rows, the columns,", "punctuation"),
        ("The rows, the columns, and.", "middle of a sentence"),
        ("Budgets, e.g.", "middle of a sentence"),
        ("Rows of a corpus.\n\nwritten as one object a line.", "second paragraph"),
        (
            "Rows.\n\nPure: computed before Ray starts, and later turned\n    into bundles.",
            "indented",
        ),
    ],
)
def test_a_cut_docstring_is_found(text, fault):
    assert any(fault in what for what in faults(text))


def test_a_whole_docstring_passes():
    text = (
        "Values in [0, 1) of `f(x`.\n\nb' = b + 1.\n\nArgs:\n    x: one.\n\nSource: ours,\n    2."
    )
    assert faults(text) == []
