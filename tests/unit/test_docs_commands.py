"""Every command that README and docs show can be typed: it parses, and names what exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from actors import cli
from bard_ray.config.load import load
from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError
from benchmarks.__main__ import benchmark_names, load_benchmark
from recipes import bard_8b, bard_tiny, distill

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
# Programs that are not this project's; what they get is not judged here.
OTHERS = ("cd", "export", "git", "hf", "pip", "pre-commit", "ray", "source")
RECIPES = {"bard_tiny": bard_tiny.config, "bard_8b": bard_8b.config}


def shell_lines(text: str) -> Iterator[str]:
    """Lines of code blocks without a language, and inline code that begins with a program."""
    for block in re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from re.sub(r"\\\n\s*", "", block).splitlines()
    yield from re.findall(r"^    (python .*|make .*|bard-ray .*)$", text, re.MULTILINE)
    yield from re.findall(r"`((?:python|make|bard-ray|ray) [^`]+)`", text)


def words(line: str) -> list[str]:
    """A command line as words, without comments; a file that is read into it is split at blanks."""
    file = re.search(r"\$\(cat (\S+)\)", line)
    read = (ROOT / file[1]).read_text().split() if file else []
    return shlex.split(line.replace(file[0], "") if file else line, comments=True) + read


def is_command(line: str) -> bool:
    """No output, no setting alone: it begins with a program that is known here."""
    return re.match(rf"(python|make|bard-ray|{'|'.join(OTHERS)})\b", line) is not None


COMMANDS = sorted(
    {
        (str(page.relative_to(ROOT)), line.strip())
        for page in PAGES
        for line in shell_lines(page.read_text())
        if is_command(line.strip())
    }
)


def recipe_config(name: str) -> Config:
    """A built-in recipe, or a stand-in for the reader's own."""
    return RECIPES.get(name, bard_8b.config)()


def check_bard_ray(arguments: list[str]) -> None:
    parsed = cli.parse(arguments)
    recipe = getattr(parsed, "recipe", "")
    assert not recipe or recipe in RECIPES or recipe.endswith(".py")
    load(recipe_config(recipe), [o for o in getattr(parsed, "overrides", []) if o != "..."])


def check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        module, _, name = arguments[1].partition(".")
        if module == "benchmarks" and name not in ("", "<name>"):
            load_benchmark(name).parse([a for a in arguments[2:] if a != "..."])
        assert find_spec(arguments[1].removesuffix(".<name>")) is not None
        return
    script = Path(arguments[0])
    assert (ROOT / script).exists(), script
    if script.parent.name == "recipes":
        command = ["data"] if script.stem == "distill" else ["run", script.stem]
        check_bard_ray([*command, *arguments[1:]])


def check(line: list[str]) -> None:
    program, *arguments = line
    if program == "ray" and "--" in arguments:
        check(arguments[arguments.index("--") + 1 :])
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {a for a in arguments if "=" not in a} <= set(targets)
    elif program == "bard-ray":
        check_bard_ray(arguments)
    elif program == "python":
        check_python(arguments)


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{p}: {c}" for p, c in COMMANDS])
def test_a_command_of_the_documentation_parses(page: str, line: str):
    check(words(line))


def test_commands_were_found():
    shown = " ".join(line for _, line in COMMANDS)
    for text in ("make demo", "bard-ray run", "ray job submit", "python -m benchmarks."):
        assert text in shown
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(
    "line",
    [
        "make tests",
        "bard-ray run bard_tiny rl.step=3",
        "bard-ray pan bard_tiny",
        "python -m benchmarks.rl_loop --fast",
        "python recipes/bard_8b.py rl.lr",
        "ray job submit -- python recipes/bard_9b.py",
    ],
)
def test_a_wrong_command_is_noticed(line: str):
    with pytest.raises((AssertionError, SystemExit, ConfigError)):
        check(words(line))


def test_every_benchmark_and_recipe_can_be_named_in_a_command():
    assert "rl_loop" in benchmark_names()
    assert set(RECIPES) == set(cli.built_in_recipes())
    assert callable(distill.config)
