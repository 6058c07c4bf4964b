"""Kinds of answers by name: built-in ones, a user's own, and what is refused."""

from pathlib import Path

import pytest

from bard_ray.config.load import from_yaml, load, to_yaml
from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError
from bard_ray.records import GradeItem, Outcome
from bard_ray.verify import kinds
from bard_ray.verify.grade import grade
from bard_ray.verify.kinds import known_kinds, register_kinds

GRADER = """
from bard_ray.records import Outcome, Verdict

NOT_A_FUNCTION = 3

def grade_chess(item):
    move = item.text.strip().rpartition("\\n")[2]
    return Verdict(Outcome.CORRECT if move == item.gold else Outcome.WRONG, move, "exact")
"""


@pytest.fixture
def my_graders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_graders.py").write_text(GRADER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(kinds, "_graders", {})


def test_built_in_kinds() -> None:
    assert {"choice", "integer", "math", "string"} <= set(known_kinds())


@pytest.mark.usefixtures("my_graders")
def test_a_kind_of_the_users_own_grades() -> None:
    register_kinds({"chess": "my_graders:grade_chess"})
    register_kinds({"chess": "my_graders:grade_chess"})
    assert "chess" in known_kinds()
    assert grade(GradeItem("I play\ne4", "e4", "chess")).outcome is Outcome.CORRECT
    assert grade(GradeItem("d4", "e4", "chess")).outcome is Outcome.WRONG


@pytest.mark.usefixtures("my_graders")
@pytest.mark.parametrize(
    ("kind", "target", "rule"),
    [
        ("chess", "my_graders", "names no function"),
        ("chess", "my_graders:grade_go", "cannot be imported"),
        ("chess", "no_such_module:grade", "cannot be imported"),
        ("chess", "my_graders:NOT_A_FUNCTION", "is no function"),
        ("math", "my_graders:grade_chess", "is a built-in kind"),
    ],
)
def test_what_cannot_be_registered_is_named(kind: str, target: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        register_kinds({kind: target})
    assert caught.value.field == f"verifier.kinds.{kind}"
    assert rule in caught.value.rule


def test_kinds_in_the_configuration() -> None:
    config = load(Config(), ["verifier.kinds.chess=my_graders:grade_chess"])
    assert config.verifier.kinds == {"chess": "my_graders:grade_chess"}
    assert from_yaml(to_yaml(config)) == config
    whole = load(Config(), ["verifier.kinds={chess: 'my:a', go: 'my:b'}"])
    assert whole.verifier.kinds == {"chess": "my:a", "go": "my:b"}


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("verifier.kinds=chess", "verifier.kinds"),
        ("verifier.kinds={chess: 3}", "verifier.kinds.chess"),
    ],
)
def test_kinds_of_another_type_are_refused(override: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Config(), [override])
    assert caught.value.field == field
