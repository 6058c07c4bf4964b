"""The README says what is on main."""

from __future__ import annotations

import re
from pathlib import Path

from bard_ray.config.load import fields
from bard_ray.metrics import render_table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_metric_table_is_the_one_in_the_code():
    assert render_table().strip() in README


def test_every_setting_the_readme_names_exists():
    named = set(
        re.findall(
            r"\b((?:run|rl|data|distill|rollout|learner|cluster|sft)\.[a-z_.]+[a-z])=", README
        )
    )
    assert len(named) > 5
    # Or an entry of a field that is a mapping.
    assert {n for n in named if n.rpartition(".")[0] not in fields()} <= set(fields())


def test_every_file_the_readme_names_exists():
    named = re.findall(
        r"`?((?:recipes|benchmarks|tests|actors|bard_ray)/[\w/.]+\.(?:py|txt|md))", README
    )
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_nothing_is_left_to_fill_in():
    assert "<!--" not in README
