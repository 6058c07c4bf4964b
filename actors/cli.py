"""The console command `bard-ray`: recipes, their data, plans and reports."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from actors import driver
from bard_ray.config.load import from_yaml
from bard_ray.config.schema import Config
from bard_ray.errors import BardError, ConfigError, RunStateError, UserError
from bard_ray.plotting import save_figure
from bard_ray.progress import Console
from bard_ray.report.budget_figures import draw_results
from bard_ray.report.html import write_report
from bard_ray.report.results import read_results

WIDE = (10.4, 3.8)  # inches: two panels side by side
DEFAULT_RECIPE = "bard_8b"  # of `bard-ray data`
EXAMPLES = """\
examples:
  bard-ray run bard_tiny rl.max_lag=2 run.name=lag2
  bard-ray run my_recipe.py --dry-run
  bard-ray data --recipe my_recipe.py data.rows.path=questions.jsonl
  bard-ray plan bard_8b rollout.workers=4
  bard-ray report runs/bard_tiny --figure results.svg
"""
RECIPE_HELP = "name of a built-in recipe ({names}), or a Python file with a function config()"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (see `actors.driver`)."""
    arguments = parse(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except UserError as error:
        return driver.report_error(Console(sys.stdout), error)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; `command` of the result is the function to call with it.

    Raises:
        SystemExit: the command line is invalid; a message explains why.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    unknown = [text for text in rest if text.startswith("-") or "overrides" not in arguments]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:  # overrides after an option, which argparse does not consume
        arguments.overrides += rest
    return arguments


def load_recipe(recipe: str) -> Config:
    """Load the configuration of a built-in recipe, or of `config()` in a Python file.

    The file's directory becomes importable, so that plug-ins in it can be loaded here and in the
    processes of a cluster that this command starts.

    Raises:
        ConfigError: the recipe does not exist, or its `config()` is missing or fails.
    """
    is_file = recipe.endswith(".py") or os.sep in recipe
    module = _from_file(recipe) if is_file else _built_in(recipe)
    make = getattr(module, "config", None)
    if not callable(make):
        raise _bad_recipe(recipe, "has no function config()")
    config = _guarded(recipe, make, "config() raised")
    if not isinstance(config, Config):
        raise _bad_recipe(recipe, f"has a config() that returns {type(config).__name__}")
    return config


def corpus_only(config: Config) -> Config:
    """The configuration that builds a recipe's training data.

    There is a learner only for a smoke test of several teachers and for the stage `base`.
    """
    return replace(
        config,
        run=replace(config.run, name=f"{config.run.name}_data", goal="corpus"),
        sft_full=replace(config.sft_full, enabled=False),
        sft=replace(config.sft, enabled=False),
        rl=replace(config.rl, enabled=False),
        evaluate=replace(config.evaluate, enabled=False),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bard-ray",
        description="Distill a reasoning teacher into a student that follows a thinking budget.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> _Parser:
        added = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        added.set_defaults(command=command)
        return added

    recipe = RECIPE_HELP.format(names=", ".join(built_in_recipes()))
    run = add("run", _run, "run a recipe; the same command again resumes where it stopped")
    run.add_argument("recipe", metavar="RECIPE", help=recipe)
    driver.add_arguments(run)
    data = add("data", _data, "build the training data of a recipe, and a report on it")
    data.add_argument(
        "--recipe", metavar="RECIPE", default=DEFAULT_RECIPE, help=f"{recipe}; default: %(default)s"
    )
    driver.add_arguments(data)
    plan = add("plan", _plan, "show the processes of a recipe and the memory of each device")
    plan.add_argument("recipe", metavar="RECIPE", help=recipe)
    driver.add_overrides(plan)
    report = add("report", _report, "write report.html of a run again")
    report.add_argument("run_dir", metavar="RUN_DIR", help="directory of a run: runs/bard_tiny")
    figure = "also draw lengths and accuracies by budget, as SVG, PNG or PDF"
    report.add_argument("--figure", metavar="FILE", type=Path, help=figure)
    return parser


_Parser = argparse.ArgumentParser


def _run(arguments: argparse.Namespace) -> int:
    return driver.execute(load_recipe(arguments.recipe), arguments)


def _data(arguments: argparse.Namespace) -> int:
    return driver.execute(corpus_only(load_recipe(arguments.recipe)), arguments)


def _plan(arguments: argparse.Namespace) -> int:
    config = load_recipe(arguments.recipe)
    return driver.show_plan(config, arguments.overrides, with_config=False)


def _report(arguments: argparse.Namespace) -> int:
    run_dir = Path(arguments.run_dir)
    try:
        config = from_yaml((run_dir / "config.yaml").read_text())
    except OSError as error:
        fix = "Give the directory of a run, for example runs/bard_tiny."
        raise RunStateError(str(run_dir), "holds no config.yaml, so no run", fix) from error
    Console(sys.stdout).line(f"report: {write_report(run_dir, config.report.title)}")
    if arguments.figure is not None:
        _draw(run_dir, arguments.figure)
    return 0


def _draw(run_dir: Path, figure: Path) -> None:
    """Draw the results of a run.

    Raises:
        RunStateError: no results yet, they cannot be drawn, or the file cannot be written.
    """
    results = read_results(run_dir / "results.json")
    try:
        save_figure(figure, draw_results(results), WIDE)
    except (OSError, ValueError) as error:
        fix = "Name an .svg, .png or .pdf file, and let the run finish its evaluation."
        raise RunStateError(str(figure), f"cannot be drawn: {error}", fix) from error
    Console(sys.stdout).line(f"figure: {figure}")


def built_in_recipes() -> tuple[str, ...]:
    """Names of the recipes of this project."""
    names: tuple[str, ...] = importlib.import_module("recipes").BUILT_IN
    return names


def _built_in(recipe: str) -> ModuleType:
    if recipe not in built_in_recipes():
        known = ", ".join(built_in_recipes())
        fix = f"Use one of {known}, or the path of a file such as ./my_recipe.py."
        raise ConfigError("recipe", recipe, "is no built-in recipe and no Python file", fix)
    return importlib.import_module(f"recipes.{recipe}")


def _from_file(recipe: str) -> ModuleType:
    """Import a file as the module `recipe_<name>`, which shadows no other module."""
    path = Path(recipe).expanduser().resolve()
    if not path.is_file():
        fix = f"The working directory is {Path.cwd()}."
        raise ConfigError("recipe", recipe, "is a file that does not exist", fix)
    _make_importable(str(path.parent))
    name = f"recipe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _bad_recipe(recipe, "is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up here
    loader = spec.loader
    _guarded(recipe, lambda: loader.exec_module(module), "cannot be imported:")
    return module


def _make_importable(directory: str) -> None:
    """Add a directory to the import path of this process and of Ray's processes."""
    if directory not in sys.path:
        sys.path.insert(0, directory)
    others = os.environ.get("PYTHONPATH", "")
    if directory not in others.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (directory, others)))


def _guarded(recipe: str, work: Callable[[], object], what: str) -> object:
    """Run code of a recipe; an exception becomes an error that names its location.

    Raises:
        ConfigError: the code failed.
    """
    try:
        return work()
    except BardError:
        raise
    except Exception as error:
        raise _bad_recipe(recipe, f"{what} {type(error).__name__}: {error}", error) from error


def _bad_recipe(recipe: str, problem: str, error: Exception | None = None) -> ConfigError:
    line = None if error is None else _line_in(recipe, error)
    place = recipe if line is None else f"{recipe}, line {line}"
    fix = f"See {place}; config() takes no arguments and returns a bard_ray.config.schema.Config."
    return ConfigError("recipe", recipe, problem, fix)


def _line_in(recipe: str, error: Exception) -> int | None:
    """The innermost line of the recipe in the traceback of an error."""
    if isinstance(error, SyntaxError):
        return error.lineno
    file = str(Path(recipe).expanduser().resolve())
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno for f in reversed(frames) if f.filename == file), None)


if __name__ == "__main__":
    sys.exit(main())
