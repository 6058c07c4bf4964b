"""docs/data.md and docs/distillation.md say what the code does."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from bard_ray.config.load import fields
from bard_ray.config.schema import RowsConfig
from bard_ray.data.rows import load_rows
from bard_ray.data.source import SOURCES
from bard_ray.distill.filter import FILTERS
from bard_ray.distill.step import STEPS
from bard_ray.distill.teacher import TEACHERS
from bard_ray.errors import DataError

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "data.md").read_text()
DISTILLATION = (DOCS / "distillation.md").read_text()


def rows(title, text=TEXT):
    """First cell, which is code, to the other cells."""
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    return {name: re.split(r"(?<!\\) \| ", rest) for name, rest in found}


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_documented_names_are_the_registered_ones():
    assert sorted(rows("Formats")) == SOURCES.names()
    assert sorted(rows("Filters", DISTILLATION)) == FILTERS.names()
    assert sorted(rows("Steps that use models", DISTILLATION)) == STEPS.names()
    backends = rows("Teachers", DISTILLATION.replace("\n### The exact", "\n## The exact"))
    assert sorted(backends) == TEACHERS.names()


@pytest.mark.parametrize("name", TEACHERS.names())
def test_a_backend_is_documented_with_all_its_parameters(name):
    _, params = rows("Teachers", DISTILLATION.replace("\n### The exact", "\n## The exact"))[name]
    found = [part.split()[0] for part in params.split(", ")]
    assert found == [f.name for f in dataclasses.fields(TEACHERS.find(name))]


@pytest.mark.parametrize("name", STEPS.names())
def test_a_step_is_documented_as_it_is(name):
    _, params, reasons = rows("Steps that use models", DISTILLATION)[name]
    found = [part.split()[0] for part in params.split(", ")]
    assert set(found) == {f.name for f in dataclasses.fields(STEPS.find(name))}
    for reason in code(reasons):
        assert reason in (STEPS.find(name).__doc__ or ""), reason


@pytest.mark.parametrize("name", SOURCES.names())
def test_a_format_is_documented_as_it_is(name):
    source = SOURCES.build(name, {})
    hubs, columns, params, trap = rows("Formats")[name]
    assert code(hubs) == [hub.path for hub in source.hubs]
    for hub in source.hubs:
        assert hub.config in hubs
    assert set(code(columns)) == set(source.columns(need_chains=True))
    documented = dict(re.findall(r"(\w+) (\w+)", params.replace("none", "")))
    defaults = {f.name: f.default for f in dataclasses.fields(SOURCES.find(name))}
    texts = {k: ", ".join(v) if isinstance(v, tuple) else str(v) for k, v in defaults.items()}
    assert documented == texts
    assert trap == source.trap != ""


@pytest.mark.parametrize("name", FILTERS.names())
def test_a_filter_is_documented_as_it_is(name):
    plugin = FILTERS.find(name)
    _, params, reasons = rows("Filters", DISTILLATION)[name]
    defaults = {f.name: f.default for f in dataclasses.fields(plugin)}
    for param, value in re.findall(r"(\w+) ([\d.]+)", params):
        assert defaults[param] == float(value), param
    text = plugin.__doc__ or ""
    assert "Source: " in text
    for reason in code(reasons):
        assert reason in text, reason
    for field in defaults:
        assert re.search(rf"^ +{field}: ", text, re.MULTILINE), field


def test_every_setting_named_exists():
    named = set(re.findall(r"(?<!ray\.)(data\.(?:rows\.)?[a-z_]+)", TEXT))
    named |= set(re.findall(r"`(distill\.(?:smoke\.)?[a-z_]+)`", DISTILLATION))
    assert len(named) > 15
    assert named <= {name for key in fields() for name in (key, key.rpartition(".")[0])}


def test_the_example_works(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n# (my_sets)\.py.*?\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / f"{example[0]}.py").write_text(example[1])
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps({"a": 4, "b": 3, "text": "<think>Hm.</think>\\boxed{8}"}))
    cfg = RowsConfig(path=str(path), format="my_sets:Sums", params={"plus": 1})
    (row,) = load_rows(cfg)
    assert row.question.answer == "8"
    assert (row.chains[0].think, row.chains[0].origin) == ("Hm.", "my teacher")
    path.write_text(json.dumps({"a": "x", "b": 3, "text": ""}))
    with pytest.raises(DataError, match="row 1 has a or b that is no number"):
        load_rows(cfg)
