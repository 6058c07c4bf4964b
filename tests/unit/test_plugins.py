"""Plug-ins by name, and their parameters through overrides and YAML."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bard_ray.config.load import from_yaml, load, to_yaml
from bard_ray.errors import ConfigError
from bard_ray.plugins import Registry, require_within
from bard_ray.preflight.check import problems
from bard_ray.rewards.fidelity import SHAPES, make_fidelity
from bard_ray.rewards.shapes.band import Band
from bard_ray.rewards.shapes.cap_linear import CapLinear
from recipes import bard_8b, bard_tiny


@dataclass(frozen=True)
class Steps:
    """A user-defined shape: 1 up to the budget, then `rest`."""

    rest: float
    edges: tuple[int, ...] = ()

    def of_length(self, tokens: float, budget_tokens: float) -> float:
        return 1.0 if tokens <= budget_tokens else self.rest


@dataclass(frozen=True)
class NoShape:
    """A dataclass without the method of a shape."""


class NoDataclass:
    """A class that is not a dataclass."""


OWN = f"{__name__}:Steps"


def test_a_plug_in_is_built_with_the_given_parameters_and_defaults():
    assert SHAPES.build("cap_linear", {"slope": 0.25}) == CapLinear(tolerance=0.1, slope=0.25)
    assert SHAPES.build("band", {"tolerance": 1}) == Band(tolerance=1.0), (
        "integers are accepted for floats"
    )


def test_a_user_defined_plug_in_is_named_as_module_and_class():
    shape = SHAPES.build(OWN, {"rest": 0.5, "edges": [1, 2]})
    assert shape == Steps(0.5, (1, 2))
    assert shape.of_length(21, 20) == 0.5


@pytest.mark.parametrize(
    ("name", "rule", "fix"),
    [
        ("cap_linaer", "not a known plug-in", "Did you mean cap_linear?"),
        ("nothing_like_it", "not a known plug-in", "asymmetric, band, cap_linear"),
        ("no_such_module:Shape", "cannot be imported", "PYTHONPATH"),
        (f"{__name__}:Missing", "cannot be imported", "PYTHONPATH"),
        (":Shape", "cannot be imported", "PYTHONPATH"),
        (f"{__name__}:NoDataclass", "not a dataclass", "@dataclass"),
        (f"{__name__}:load", "not a dataclass", "@dataclass"),
        (f"{__name__}:NoShape", "has no method of_length", "bard_ray.rewards.shapes"),
    ],
)
def test_an_invalid_name_is_refused(name, rule, fix):
    with pytest.raises(ConfigError) as caught:
        SHAPES.build(name, {})
    assert (caught.value.field, caught.value.value) == ("rl.reward.fidelity.name", name)
    assert rule in caught.value.rule
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("name", "params", "field", "rule"),
    [
        ("cap_linear", {"slop": 0.5}, "rl.reward.fidelity.params.slop", "not a parameter of"),
        ("cap_linear", {"slope": "wide"}, "rl.reward.fidelity.params", "must be float"),
        ("cap_linear", {"slope": True}, "rl.reward.fidelity.params", "must be float"),
        ("cap_linear", {"slope": None}, "rl.reward.fidelity.params", "must be float"),
        ("cap_linear", {"slope": 0}, "rl.reward.fidelity.params", "slope must be above 0"),
        (OWN, {}, "rl.reward.fidelity.params", "rest"),
    ],
)
def test_invalid_parameters_are_refused(name, params, field, rule):
    with pytest.raises(ConfigError) as caught:
        SHAPES.build(name, params)
    assert caught.value.field == field
    assert rule in caught.value.rule
    assert caught.value.fix


def test_switching_the_plug_in_of_a_recipe_says_how_to_drop_its_parameters():
    with pytest.raises(ConfigError, match=r"It has k; rl\.reward\.fidelity\.params=\{\} clears"):
        SHAPES.build("exp", {"tolerance": 0.1})


def test_a_registry_without_a_required_method_takes_any_dataclass():
    registry: Registry[object] = Registry("rl.reward.fidelity", "bard_ray.rewards.shapes")
    assert registry.build(f"{__name__}:NoShape", {}) == NoShape()


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (-1.0, {"low": 0}, "x must be at least 0, not -1.0"),
        (0.0, {"low": 0, "open_low": True}, "x must be above 0, not 0.0"),
        (2.0, {"low": 0, "high": 1}, "x must be at least 0 and at most 1, not 2.0"),
        (float("nan"), {"low": 0}, "x must be at least 0, not nan"),
        (float("inf"), {}, "x must be finite, not inf"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_its_range(value, limits, message):
    with pytest.raises(ValueError, match="x must be") as caught:
        require_within("x", value, **limits)
    assert str(caught.value) == message


def test_a_parameter_within_its_range_passes():
    require_within("x", 0.0, 0)
    require_within("x", 1.0, 0, 1, open_low=True)


OVERRIDES = [
    "rl.reward.name=additive",
    "rl.reward.params.weight=0.25",
    "rl.reward.fidelity.name=cap_linear",
    "rl.reward.fidelity.params.slope=0.5",
    "rl.reward.fidelity.params.tolerance=1e-3",
]


def test_parameters_are_set_by_dotted_overrides_and_come_back_from_yaml():
    config = load(bard_tiny.config(), OVERRIDES)
    assert config.rl.reward.params == {"weight": 0.25}
    assert config.rl.reward.fidelity.params == {"slope": 0.5, "tolerance": 0.001}
    assert make_fidelity(config.rl.reward.fidelity) == CapLinear(tolerance=0.001, slope=0.5)
    assert from_yaml(to_yaml(config)) == config
    assert problems(config) == []
    assert bard_tiny.config().rl.reward.params == {}, "the recipe is not modified"


def test_all_parameters_can_be_set_or_cleared_at_once():
    config = load(bard_tiny.config(), [*OVERRIDES, "rl.reward.fidelity.params={slope: 2}"])
    assert config.rl.reward.fidelity.params == {"slope": 2}
    cleared = load(config, ["rl.reward.fidelity.params={}", "rl.reward.fidelity.name=exp"])
    assert cleared.rl.reward.fidelity.params == {}
    assert problems(cleared) == []


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        (["rl.reward.name=prodct"], "rl.reward.name"),
        (["rl.reward.fidelity.name=round"], "rl.reward.fidelity.name"),
        (["rl.reward.params.weight=1"], "rl.reward.params.weight"),
        (["rl.reward.name=additive", "rl.reward.params.weight=2"], "rl.reward.params"),
        (["rl.reward.fidelity.params.over_slope=steep"], "rl.reward.fidelity.params"),
    ],
)
def test_checking_the_configuration_finds_the_mistake(overrides, field):
    found = problems(load(bard_tiny.config(), overrides))
    assert [problem.field for problem in found] == [field]


def test_mistakes_in_reward_and_shape_are_reported_together():
    found = problems(load(bard_tiny.config(), ["rl.reward.name=x", "rl.reward.fidelity.name=y"]))
    assert [p.field for p in found] == ["rl.reward.name", "rl.reward.fidelity.name"]


def test_rewards_of_the_recipes():
    tiny, large = bard_tiny.config().rl.reward, bard_8b.config().rl.reward
    assert (tiny.name, tiny.fidelity.name, tiny.answer_limit) == ("product", "asymmetric", 16)
    assert (large.name, large.answer_limit) == ("product", 1024)
    assert make_fidelity(large.fidelity) == CapLinear(tolerance=0.1, slope=0.5)
