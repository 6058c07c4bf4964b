"""The console command `bard-ray`: built-in recipes, recipes from files, and their mistakes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setuptools  # type: ignore[import-untyped]

from actors.cli import built_in_recipes, load_recipe, main
from bard_ray.config.load import to_yaml
from bard_ray.report.results import Results, write_results
from bard_ray.verify import kinds
from recipes import bard_tiny
from tests.unit.pages import variant

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
from recipes.bard_tiny import config as tiny


def config():
    config = tiny()
    config.run.name = "mine"
    return config
"""


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """A recipe's directory becomes importable; not for the other tests."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe; returns its path."""

    def write(text: str = RECIPE) -> str:
        path = tmp_path / "recipes_of_mine" / "my_recipe.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def output(capsys, *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    return code, capsys.readouterr().out


def test_a_built_in_recipe_is_known_by_its_name():
    assert built_in_recipes() == ("bard_8b", "bard_tiny")
    assert to_yaml(load_recipe("bard_tiny")) == to_yaml(bard_tiny.config())


def test_a_recipe_from_a_file_runs_from_any_directory(recipe, capsys, tmp_path, monkeypatch):
    recipe()
    monkeypatch.chdir(tmp_path)
    code, out = output(
        capsys, "run", "recipes_of_mine/my_recipe.py", "rl.steps=7", "--dry-run", "rl.max_lag=2"
    )
    assert code == 0, out
    assert "name: mine" in out
    assert "steps: 7" in out
    assert "max_lag: 2" in out
    assert list(tmp_path.iterdir()) == [tmp_path / "recipes_of_mine"]


def test_plug_ins_beside_a_recipe_are_found_here_and_by_other_processes(
    recipe, capsys, monkeypatch
):
    monkeypatch.setattr(kinds, "_graders", {})  # what is registered here is forgotten again
    path = recipe()
    (Path(path).parent / "my_grader.py").write_text("def grade(answer, gold):\n    return True\n")
    own = "verifier.kinds={chess: 'my_grader:grade'}"
    code, out = output(capsys, "plan", path, own)
    assert code == 0, out
    found = subprocess.run(
        [sys.executable, "-c", "import my_grader"], cwd="/", capture_output=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_the_data_of_a_recipe_need_none_of_its_training(recipe, capsys):
    code, out = output(capsys, "data", "--recipe", recipe(), "run.seed=3", "--dry-run")
    assert code == 0, out
    assert "goal: corpus" in out
    assert "name: mine_data" in out
    assert "seed: 3" in out
    assert "reference" not in out.split("role ")[1]


def test_a_plan_shows_processes_and_memory_without_the_configuration(capsys):
    code, out = output(capsys, "plan", "bard_tiny", "learner.ranks=2", "cluster.cpus=4")
    assert code == 0
    assert "learner        2" in out
    assert "GiB" in out
    assert "warmup_steps" not in out


def test_the_report_of_a_run_is_written_again(capsys, tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(bard_tiny.config()))
    write_results(tmp_path / "results.json", Results({"sft": 1.0}, {}, {}))
    code, out = output(capsys, "report", str(tmp_path))
    assert code == 0
    assert str(tmp_path / "report.html") in out
    assert "BARD at tiny size" in (tmp_path / "report.html").read_text()


def test_the_figure_of_a_run_is_drawn_on_request(capsys, tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(bard_tiny.config()))
    figure = tmp_path / "results.svg"
    write_results(tmp_path / "results.json", Results({}, {"rl": variant(0.7)}, {}))
    code, out = output(capsys, "report", str(tmp_path), "--figure", str(figure))
    assert (code, out.splitlines()[-1]) == (0, f"figure: {figure}")
    assert {"thinking tokens used", "accuracy"} <= set(re.findall(">([^<]+)<", figure.read_text()))
    write_results(tmp_path / "results.json", Results({}, {}, {}))
    code, out = output(capsys, "report", str(tmp_path), "--figure", str(figure))
    assert code == 2
    assert "no graded rollout" in out


def test_a_directory_that_is_no_run_has_no_report(capsys, tmp_path):
    code, out = output(capsys, "report", str(tmp_path))
    assert code == 2
    assert "no run" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", ["my_recipe.py", "no function config()"]),
        ("def config():\n    return {}\n", ["config() that returns dict", "Config"]),
        ("def config():\n    return 1 / 0\n", ["line 2", "ZeroDivisionError"]),
        ("import no_such_module\n", ["line 1", "no_such_module"]),
        ("x = 1\ndef config(:\n", ["line 2", "SyntaxError"]),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_with_its_place(recipe, capsys, text, words):
    code, out = output(capsys, "run", recipe(text))
    assert code == 2
    assert all(word in out for word in words), out
    assert "Traceback" not in out


@pytest.mark.parametrize("name", ["bard_tinny", "./nowhere.py"])
def test_a_recipe_that_does_not_exist(capsys, name):
    code, out = output(capsys, "run", name)
    assert code == 2
    assert name in out


@pytest.mark.parametrize("arguments", [["run"], ["plan", "bard_tiny", "--drai-run"], ["fly"], []])
def test_a_command_that_cannot_be_read_shows_how_it_is_used(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: bard-ray" in capsys.readouterr().err


def test_help_lists_the_commands_with_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"bard-ray {command}" in shown for command in ("run", "data", "plan", "report"))


def test_the_recipe_that_makes_data_takes_a_path_too(recipe, tmp_path):
    command = [sys.executable, str(ROOT / "recipes" / "distill.py"), "--recipe", recipe()]
    done = subprocess.run(
        [*command, "--dry-run", "run.seed=5"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "name: mine_data" in done.stdout


def test_what_is_installed_and_what_stays_in_the_checkout():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"bard-ray": "actors.cli:main"}
    include = project["tool"]["setuptools"]["packages"]["find"]["include"]
    installed = set(setuptools.find_packages(str(ROOT), include=include))
    assert {"bard_ray.rl", "actors.stages", "recipes"} <= installed
    assert not any(name.startswith(("benchmarks", "tests")) for name in installed)
