"""The DED benchmark reads what runs leave and compares them."""

import json
from typing import Any

import pytest

from bard_ray.config.load import load
from bard_ray.distill.choice import CandidateFigures, TeacherChoice
from bard_ray.report.results import Results, write_results
from benchmarks import ded
from benchmarks.ded import (
    CURATED_STEPS,
    Lab,
    SeedRuns,
    Sizes,
    StudentOutcome,
    json_override,
    render,
    summarize,
)
from recipes.bard_tiny import config as recipe

CHOICE = TeacherChoice("clean", (CandidateFigures("clean", 10, 2, 8, 0.5, 0.1),))


def leave(run, accuracy, rows, teacher, choice=None):
    """What a finished run leaves."""
    variant: Any = {"rel_err": 0.1, "in_band": 0.5, "overrun": 0.2, "accuracy": accuracy}
    variant |= {"broken": 0, "failed": 0, "by_budget": {}}
    write_results(run / "results.json", Results({}, {"sft": variant}))
    facts = {"rows_sft": rows, "teacher": teacher}
    (run / "state.json").write_text(json.dumps({"stages": {"distill": {"facts": facts}}}))
    (run / "data").mkdir()
    steps = [{"name": "correct", "records": 100, "kept": 75}]
    content = {"choice": choice.to_json() if choice else None, "steps": steps}
    (run / "data" / "report.json").write_text(json.dumps(content))


@pytest.fixture
def commands(monkeypatch):
    """Runs that only leave their results; accuracy by the run's name."""
    accuracy = {"smoke": 0.8, "teacher_sloppy": 0.5, "teacher_verbose": 0.6}
    accuracy |= {"curated": 0.6, "curated_long": 0.7, "random": 0.4, "random_5x": 0.8}
    made = {}

    def run_recipe(*overrides):
        from pathlib import Path

        given = dict(override.partition("=")[::2] for override in overrides)
        name = given["run.name"]
        made[name] = overrides
        rows = 380 if name.startswith("curated") else int(given["distill.questions"]) * 4
        choice = CHOICE if name == "smoke" else None
        leave(Path(given["run.dir"]) / name, accuracy[name], rows, "clean", choice)

    monkeypatch.setattr(ded, "run_recipe", run_recipe)
    return made


def test_random_corpora_are_as_large_as_the_curated_one_and_five_times_that(commands, tmp_path):
    lab = Lab(tmp_path, 3, Sizes(), [])
    choice, teachers = lab.teachers()
    corpora = lab.corpora()
    assert choice == CHOICE
    assert set(teachers) == {"clean", "sloppy", "verbose"}
    # 380 rows, 5 % of them without a budget, 4 budgets a question, 3 of 4 chains correct
    assert "distill.questions=120" in commands["random"]
    assert "distill.questions=600" in commands["random_5x"]
    assert "sft.epochs=5" in commands["curated_long"]
    base = f"student.path={tmp_path}/seed3/smoke/checkpoints/base"
    assert [name for name, given in commands.items() if base not in given] == ["smoke"]
    assert corpora["random_5x"].score == pytest.approx(0.4)


def test_the_ratios_are_those_of_the_scores(commands, tmp_path):
    lab = Lab(tmp_path, 0, Sizes(), [])
    found = summarize([SeedRuns(*lab.teachers(), lab.corpora())])
    assert (found["ratio"], found["ratio_5x"], found["chose_best"]) == (1.5, 0.875, 1.0)
    assert found["best"] == ["clean"]
    assert found["variants"]["sloppy"]["accuracy"] == {"mean": 0.5, "min": 0.5, "max": 0.5}


def test_a_wrong_choice_is_reported():
    def outcome(accuracy):
        return StudentOutcome(
            {"accuracy": accuracy, "in_band": 1.0, "rel_err": 0, "overrun": 0}, 9, ""
        )

    teachers = [
        {"clean": outcome(0.5), "verbose": outcome(0.6)},
        {"clean": outcome(0.7), "verbose": outcome(0.6)},
    ]
    names = ("curated", "curated_long", "random", "random_5x")
    corpora = {name: outcome(0.5) for name in names}
    found = summarize([SeedRuns(CHOICE, students, corpora) for students in teachers])
    assert (found["chose_best"], found["best"]) == (0.5, ["verbose", "clean"])
    assert "0.6 (0.5 to 0.7)" in render(found)


def test_lists_and_mappings_can_be_given_as_overrides():
    given = [
        json_override("distill.steps", CURATED_STEPS),
        json_override("distill.teachers", ded.VARIED),
    ]
    config = load(recipe(), given)
    assert config.distill.steps == CURATED_STEPS
    assert config.distill.teachers == ded.VARIED
