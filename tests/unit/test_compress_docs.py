"""docs/distillation.md names compressors, allocations, prompts and reasons as they are."""

import dataclasses
import re
from importlib.resources import files
from pathlib import Path

import pytest

from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.compressor import COMPRESSORS, own_budgets
from bard_ray.distill.compressors.rewrite import Rewrite
from bard_ray.distill.prompt_templates import sections

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "distillation.md").read_text()


def table(title):
    """First cell, which is code, to the other cells."""
    section = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", section, re.MULTILINE)
    return {name: rest.split(" | ") for name, rest in found}


def parameters(cell):
    """Names to defaults, as text; empty where none is found."""
    named = [part.split() for part in cell.split(", ") if part != "none" and "all of" not in part]
    return {name: " ".join(value) for name, *value in named}


def defaults(cls):
    return {field.name: field.default for field in dataclasses.fields(cls) if field.init}


def test_documented_names_are_the_registered_ones():
    found = [name for name in table("Compressors") if not name.endswith(".txt")]
    assert sorted(found) == COMPRESSORS.names()
    assert sorted(table("Allocations")) == ALLOCATIONS.names()


@pytest.mark.parametrize("name", COMPRESSORS.names())
def test_a_compressor_is_documented_as_it_is(name):
    cls = COMPRESSORS.find(name)
    _, writer, budgets, params, reasons = table("Compressors")[name]
    inherited = defaults(Rewrite) if "all of `rewrite`" in params else {}
    found = parameters(params)
    assert set(found) | set(inherited) == set(defaults(cls))
    for key, value in found.items():
        assert not value or value == str(defaults(cls)[key]).lower(), key
    text = cls.__doc__ or ""
    assert "Source: " in text
    for reason in re.findall(r"`(\w+)`", reasons):
        assert f"`{reason}`" in text, reason
    assert (writer == "yes") == (name in ("rewrite", "by_difficulty", "truncate"))
    assert budgets.startswith("itself") == (own_budgets(COMPRESSORS.build(name, {})) > 0)


@pytest.mark.parametrize("name", ALLOCATIONS.names())
def test_an_allocation_is_documented_as_it_is(name):
    cls = ALLOCATIONS.find(name)
    found = parameters(table("Allocations")[name][1])
    assert set(found) == set(defaults(cls))
    for key, value in found.items():
        assert not value or value == str(defaults(cls)[key]), key
    assert "Source: ours" in " ".join((cls.__doc__ or "").split())


@pytest.mark.parametrize("name", sorted({*COMPRESSORS.names(), *ALLOCATIONS.names()}))
def test_parameters_are_explained_where_they_are_defined(name):
    registry = COMPRESSORS if name in COMPRESSORS.names() else ALLOCATIONS
    cls = registry.find(name)
    text = "".join(base.__doc__ or "" for base in cls.__mro__)
    for field in dataclasses.fields(cls):
        assert re.search(rf"^ +(\w+, )*{field.name}(, \w+)*: ", text, re.MULTILINE), field.name


def test_prompt_files_are_documented_as_they_are():
    found = {name: cells for name, cells in table("Compressors").items() if name.endswith(".txt")}
    folder = files("bard_ray.distill.prompts")
    assert set(found) == {entry.name for entry in folder.iterdir() if entry.name.endswith(".txt")}
    for name, (_, needed, allowed) in found.items():
        text = (folder / name).read_text("utf-8")
        used = {word for word in re.findall(r"\{(\w+)\}", text) if name != "feedback.txt"}
        assert used <= set(re.findall(r"\{(\w+)\}", needed + allowed))
        for word in re.findall(r"\{(\w+)\}", needed):
            assert word in used
    assert set(re.findall(r"\[(\w+)\]", found["feedback.txt"][1])) == set(
        sections(Rewrite().remarks)
    )
