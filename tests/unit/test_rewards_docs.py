"""docs/rewards.md agrees with the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from bard_ray.config.schema import RewardConfig
from bard_ray.plugins import Registry
from bard_ray.rewards import parts
from bard_ray.rewards.fidelity import SHAPES
from bard_ray.rewards.plot import FILE, RATIOS, curve, draw_shapes, main
from bard_ray.rewards.reward import REWARDS
from tests.unit.reward_cases import RIGHT, WRONG, group, rewarded, rollout

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "rewards.md").read_text()


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> dict[str, list[str]]:
    """The first cell, which is code, to the other cells."""
    found = re.findall(r"^\| `(\w+)` \|(.*)\|$", section(title), re.MULTILINE)
    return {name: re.split(r"(?<!\\)\|", rest) for name, rest in found}


def number(text: str) -> float:
    return float(text.replace(",", ""))


TABLES: list[tuple[str, Registry]] = [("Fidelity shapes", SHAPES), ("Rewards", REWARDS)]


@pytest.mark.parametrize(("title", "registry"), TABLES)
def test_every_registered_plug_in_is_documented(title, registry):
    assert sorted(rows(title)) == registry.names()


@pytest.mark.parametrize(("title", "registry"), TABLES)
def test_documented_defaults_are_those_of_the_code(title, registry):
    for name, cells in rows(title).items():
        documented = dict(re.findall(r"(\w+) (-?[\d.,e-]*\d)", cells[1]))
        defaults = {f.name: f.default for f in dataclasses.fields(registry.find(name))}
        assert {k: number(v) for k, v in documented.items()} == defaults, name


@pytest.mark.parametrize(("title", "registry"), TABLES)
def test_every_docstring_has_its_source_and_parameters(title, registry):
    for name in registry.names():
        docstring = registry.find(name).__doc__ or ""
        assert "Source: " in docstring, name
        for field in dataclasses.fields(registry.find(name)):
            assert re.search(rf"^ +{field.name}: .*", docstring, re.MULTILINE), (name, field.name)


def test_the_table_of_cases_is_the_one_in_the_code():
    table = re.findall(r"^\|.*\|$", parts.__doc__ or "", re.MULTILINE)
    assert len(table) > 10
    assert "\n".join(table) in section("What is rewarded how")


def test_the_figure_shows_every_shape(tmp_path):
    committed = (DOCS / "figures" / FILE).read_text()
    for name in SHAPES.names():
        assert f">{name}</text>" in committed
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / FILE).read_text().startswith("<?xml")
    draw_shapes(tmp_path / "shapes.png")
    assert (tmp_path / "shapes.png").stat().st_size > 10_000


def test_a_curve_is_the_shape_over_length_by_budget():
    assert dict(zip(RATIOS.tolist(), curve("triangular", 1000), strict=True))[1.5] == 0.5


def test_the_figure_needs_a_directory(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_examples_work(tmp_path, monkeypatch):
    for name, code in re.findall(r"```python\n# (\w+)\.py.*?\n(.*?)```", TEXT, re.DOTALL):
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert SHAPES.build("my_shapes:Steps", {}).of_length(21, 20) == 0.5
    graded = group((rollout(22), RIGHT), (rollout(20), WRONG))
    found = rewarded(RewardConfig("my_rewards:ThoughtAndAnswer"), graded)
    assert found.rewards_G is not None
    assert found.rewards_G.tolist() == [1.0, 0.0]
    np.testing.assert_allclose(found.segment_rewards["think"], [[0.6], [0.0]], atol=1e-6)
    assert found.segment_rewards["answer"].tolist() == [[1.0], [0.0]]
