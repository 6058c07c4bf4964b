"""The stage `distill` through its command line: killed and run again, chosen teachers, stores."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.engines.runs import Recipe

pytestmark = [pytest.mark.engines, pytest.mark.slow, pytest.mark.timeout(600)]

DATA_ONLY = [
    "run.goal=corpus",
    "distill.teacher=verbose",
    "distill.questions=2000",
    "distill.steps=[{teach: {chains: 3}}, grade, correct, think_tags, near_duplicates,"
    " {diverse: {keep: 2}}]",
]


KILLED_AT = 30  # parts of all steps, of about 65


def data(recipe: Recipe) -> dict[str, str]:
    """Digest of the corpora."""
    return {
        name: hashlib.sha256((recipe.path / "data" / name).read_bytes()).hexdigest()
        for name in ("sft.jsonl", "sft_full.jsonl")
    }


def parts(store: Path) -> dict[str, str]:
    """Digest of every part of every step."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*.parquet"))
    }


def wait_for_parts(store: Path, count: int, process: subprocess.Popen[str]) -> int:
    """Until so many parts are there; returns how many there are."""
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        assert process.poll() is None, process.communicate()[0]
        if (found := len(list(store.rglob("part-*.json")))) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{count} parts did not come")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Recipe:
    """An undisturbed run."""
    recipe = Recipe(tmp_path_factory.mktemp("whole"), "whole")
    recipe.out = recipe.run(*DATA_ONLY)
    return recipe


def test_killed_and_run_again_the_corpus_is_the_same_byte_for_byte(whole, tmp_path):
    recipe, store = Recipe(tmp_path, "killed"), tmp_path / "distill"
    process = recipe.start(*DATA_ONLY)
    wait_for_parts(store, KILLED_AT, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (recipe.path / "data" / "sft.jsonl").exists()
    before = parts(store)
    recipe.run(*DATA_ONLY)
    assert data(recipe) == data(whole)
    after = parts(store)
    assert after == parts(whole.directory / "distill")
    assert all(after[name] == digest for name, digest in before.items())
    report = json.loads((recipe.path / "data" / "report.json").read_text())
    assert sum(step["reused"] for step in report["steps"]) >= KILLED_AT


def test_another_run_with_the_same_data_makes_nothing_again(whole):
    recipe = Recipe(whole.directory, "again")
    recipe.run(*DATA_ONLY)
    assert data(recipe) == data(whole)
    report = json.loads((recipe.path / "data" / "report.json").read_text())
    assert all(step["reused"] == step["parts"] > 0 for step in report["steps"])


def test_the_report_tells_what_happened(whole):
    report = json.loads((whole.path / "data" / "report.json").read_text())
    steps = {step["name"]: step for step in report["steps"]}
    assert list(steps) == [
        "teach", "grade", "correct", "think_tags", "near_duplicates", "diverse", "compress",
    ]  # fmt: skip
    assert steps["teach"]["kept"] == 6000
    assert set(steps["diverse"]["dropped"]) == {"not_diverse"}
    assert report["diversity"] is not None
    assert report["diversity"]["chosen"] >= report["diversity"]["random"]
    rows = list(map(json.loads, (whole.path / "data" / "sft.jsonl").read_text().splitlines()))
    accepted = sum(budget["accepted"] for budget in report["acceptance"].values())
    assert accepted == sum(row["budget"] != "none" for row in rows) > 7_000
    page = (whole.path / "data" / "report.html").read_text()
    assert "Where the time goes".lower() in page.lower()
    assert f"report on it: {whole.path / 'data' / 'report.html'}" in whole.out


def test_the_smoke_test_trains_a_student_of_each_teacher_and_its_choice_is_kept(tmp_path):
    overrides = [
        "run.goal=corpus",
        "base.rows=2500",
        "distill.questions=300",
        "distill.teacher=",
        "distill.smoke.questions=100",
        "distill.smoke.eval_questions=8",
    ]
    recipe = Recipe(tmp_path, "smoke")
    recipe.run(*overrides)
    choice = json.loads((recipe.path / "data" / "report.json").read_text())["choice"]
    tried = {candidate["name"]: candidate for candidate in choice["candidates"]}
    assert list(tried) == ["clean", "sloppy", "verbose"]
    assert choice["winner"] == recipe.facts("distill")["teacher"] in tried
    assert len({candidate["steps"] for candidate in tried.values()}) == 1
    assert all(candidate["questions"] == 8 for candidate in tried.values())
    again = Recipe(tmp_path, "again")
    out = again.run(*overrides)
    kept = json.loads((again.path / "data" / "report.json").read_text())["choice"]
    assert kept == choice
    assert "training" not in out  # a choice that was made holds
