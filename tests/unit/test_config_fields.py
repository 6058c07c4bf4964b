"""Every field of the schema does something: some code outside the checks reads it.

Names such as `cpus` belong to several sections, so a read counts only where the expression before
the dot is known to be that section: by an annotation, by an assignment, or by the path from the
whole configuration.
"""

from __future__ import annotations

import ast
import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

from bard_ray.config import schema
from bard_ray.config.load import fields

SECTIONS: dict[str, type] = {
    name: kind
    for name, kind in vars(schema).items()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind)
}
FIELDS = {name: get_type_hints(kind) for name, kind in SECTIONS.items()}
# Judging a field is not using it; the memory plan uses what it reads.
JUDGES = ("bard_ray/config/", "bard_ray/preflight/")
USERS = ("bard_ray/preflight/memory.py",)

Types = defaultdict[str, set[str]]


class Reads:
    """Which fields of which sections some files read.

    `names` are variables of one file; attributes are known by `.name`, those that begin with an
    underscore in their file only, the others everywhere.
    """

    def __init__(self, sources: dict[str, str]) -> None:
        self.trees = {place: ast.parse(source) for place, source in sources.items()}
        self.names: dict[str, Types] = {place: defaultdict(set) for place in self.trees}
        self.attributes: Types = defaultdict(set)
        while self._learn():  # until assignments bring nothing new
            pass

    def found(self) -> set[tuple[str, str]]:
        """Pairs of a section's class and a field."""
        return {
            (section, node.attr)
            for place, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
            for section in self.sections(place, node.value)
            if node.attr in FIELDS[section]
        }

    def sections(self, place: str, node: ast.expr) -> set[str]:
        """Classes that an expression may be an instance of."""
        if isinstance(node, ast.Name):
            return self.names[place][node.id]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "replace":
            return self.sections(place, node.args[0])
        if isinstance(node, ast.Tuple):
            return set().union(*(self.sections(place, part) for part in node.elts))
        if not isinstance(node, ast.Attribute):
            return set()
        inner = {
            FIELDS[section][node.attr].__name__
            for section in self.sections(place, node.value)
            if dataclasses.is_dataclass(FIELDS[section].get(node.attr))
        }
        return inner | self._known(place, f".{node.attr}")

    def _known(self, place: str, name: str) -> set[str]:
        everywhere = name.startswith(".") and not name.startswith("._")
        return (self.attributes if everywhere else self.names[place])[name]

    def _learn(self) -> bool:
        before = self._size()
        for place, tree in self.trees.items():
            for node in ast.walk(tree):
                for target, sections in self._bound(place, node):
                    self._known(place, target).update(sections)
        return self._size() > before

    def _size(self) -> int:
        return sum(
            len(s) for types in (self.attributes, *self.names.values()) for s in types.values()
        )

    def _bound(self, place: str, node: ast.AST) -> Iterator[tuple[str, set[str]]]:
        """Names that a node binds, with the classes it tells of."""
        if isinstance(node, ast.arg):
            yield node.arg, _annotated(node.annotation)
        elif isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield f".{line.target.id}", _annotated(line.annotation)
        elif isinstance(node, ast.AnnAssign):
            yield _target(node.target), _annotated(node.annotation)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from self._assigned(place, target, node.value)

    def _assigned(
        self, place: str, target: ast.expr, value: ast.expr
    ) -> Iterator[tuple[str, set[str]]]:
        if isinstance(target, ast.Tuple):  # what came in a tuple is known by all its members
            given = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
            for one, part in zip(target.elts, given, strict=True):
                yield from self._assigned(place, one, part)
        else:
            yield _target(target), self.sections(place, value)


def _annotated(annotation: ast.expr | None) -> set[str]:
    parts = ast.walk(annotation) if annotation else ()
    return {node.id for node in parts if isinstance(node, ast.Name)} & set(SECTIONS)


def _target(node: ast.expr) -> str:
    return f".{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def sources() -> dict[str, str]:
    """Text of every file that may use a field."""
    files = [file for root in ("bard_ray", "actors") for file in Path(root).rglob("*.py")]
    return {
        str(file): file.read_text()
        for file in sorted(files)
        if str(file) in USERS or not str(file).startswith(JUDGES)
    }


def section_of(field: str) -> str:
    """Class of the section that holds a field, by the field's dotted name."""
    kind: type = schema.Config
    for name in field.split(".")[:-1]:
        kind = get_type_hints(kind)[name]
    return kind.__name__


def test_every_field_is_read():
    read = Reads(sources()).found()
    unread = [name for name in fields() if (section_of(name), name.rpartition(".")[2]) not in read]
    assert unread == []


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("def f(config: Config): return config.rl.steps", True),
        ("def f(config: RLConfig): return config.steps", True),
        ("def f(config: Config):\n    rl = config.rl\n    return rl.steps", True),
        (
            "def f(config: Config):\n    a, rl = 1, replace(config.rl, lr=1)\n    return rl.steps",
            True,
        ),
        (
            "class A:\n    def f(self, c: RLConfig): self._c = c\n    def g(self): self._c.steps",
            True,
        ),
        ("class A:\n    rl: RLConfig\ndef f(a): return a.rl.steps", True),
        ("def f(c: RLConfig):\n    both = (1, c)\n    _, mine = both\n    mine.steps", True),
        ("def f(config: DistillConfig): return config.steps", False),
        ("def f(config): return config.steps", False),
        ("def f(config: RLConfig): config.steps = 3", False),
    ],
)
def test_a_read_counts_for_the_section_it_is_of(source, read):
    assert (("RLConfig", "steps") in Reads({"x.py": source}).found()) == read
