"""README and docs say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bard_ray.budget.draw import SAMPLERS, SCHEDULES
from bard_ray.config.load import fields
from bard_ray.data.source import SOURCES
from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.compressor import COMPRESSORS
from bard_ray.distill.filter import FILTERS
from bard_ray.distill.step import STEPS
from bard_ray.distill.teacher import TEACHERS
from bard_ray.learn.correction import CORRECTIONS
from bard_ray.plugins import Registry
from bard_ray.report import metrics_page
from bard_ray.rewards.fidelity import SHAPES
from bard_ray.rewards.reward import REWARDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
REGISTRIES: dict[str, Registry[Any]] = {
    "reward": REWARDS,
    "budget fidelity": SHAPES,
    "off-policy correction": CORRECTIONS,
    "budget sampler": SAMPLERS,
    "budget schedule": SCHEDULES,
    "teacher": TEACHERS,
    "step of the data pipeline": STEPS,
    "filter of the data pipeline": FILTERS,
    "compressor": COMPRESSORS,
    "budget allocation": ALLOCATIONS,
}
FOLDERS = ("recipes", "benchmarks", "tests", "actors", "bard_ray", "docs", "requirements")


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=page_name)


def test_the_metrics_page_is_made_from_the_code():
    assert (ROOT / "docs/metrics.md").read_text() == metrics_page.render()


def test_the_plugin_table_names_what_is_registered():
    text = (ROOT / "docs/plugins.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    named = {row[0].removeprefix("| "): row for row in rows}
    for kind, registry in REGISTRIES.items():
        assert named[kind][2].split(", ") == registry.names(), kind
        assert (ROOT / named[kind][3].strip("`")).is_dir()
    assert set(named) - {"plug-in"} == {*REGISTRIES, "data format", "kind of answer"}
    assert len(SOURCES.names()) > 10


@each_page
def test_every_setting_a_page_names_exists(page):
    sections = {name.partition(".")[0] for name in fields()}
    named = set(re.findall(rf"\b((?:{'|'.join(sections)})\.[a-z_.]+[a-z])=", page.read_text()))
    unknown = named - set(fields())
    # Or an entry of a field that is a mapping, such as a plug-in's parameters, or a whole section.
    pairs = [(n, f) for n in unknown for f in fields()]
    fine = {n for n, f in pairs if n.startswith(f"{f}.") or f.startswith(f"{n}.")}
    assert unknown - fine == set()


@each_page
def test_every_file_a_page_names_exists(page):
    named = re.findall(
        rf"(?<![\w/])((?:{'|'.join(FOLDERS)})/[\w/.-]+\.(?:py|txt|md|toml|json))", page.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


@each_page
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@each_page
def test_nothing_is_left_to_fill_in(page):
    assert not re.search(r"<!--|\bTODO\b|\bTBD\b", page.read_text())
