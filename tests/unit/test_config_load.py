"""Overrides and YAML: what is accepted, and the message when it is not."""

import pytest

from bard_ray.config.load import RENAMED, fields, from_yaml, load, to_yaml
from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError


def test_override_sets_one_field_and_leaves_the_recipe_alone():
    recipe = Config()
    loaded = load(
        recipe, ["rl.max_lag=3", "rl.reward.name=additive", "budget.train=[4,9]", "rl.lr=1e-3"]
    )
    assert isinstance(loaded, Config)
    assert (loaded.rl.max_lag, loaded.rl.reward.name, loaded.budget.train) == (
        3,
        "additive",
        [4, 9],
    )
    assert loaded.rl.lr == pytest.approx(0.001)
    assert recipe == Config()


def test_last_override_wins():
    assert load(Config(), ["rl.max_lag=3", "rl.max_lag=4"]).rl.max_lag == 4


@pytest.mark.parametrize(
    ("text", "name"),
    [("0123", "0123"), ("1e3", "1e3"), ("on", "on"), ("a=b", "a=b"), ("'a b'", "a b"), ("", "")],
    ids=["octal", "float", "bool", "equals", "quoted", "empty"],
)
def test_text_stays_text(text, name):
    """YAML 1.1 would read the first three as 83, 1000.0 and True."""
    assert load(Config(), [f"run.name={text}"]).run.name == name


@pytest.mark.parametrize(
    ("override", "field", "hint"),
    [
        ("rl.maxlag=2", "rl.maxlag", "rl.max_lag"),
        ("max_lag=2", "max_lag", "rl.max_lag"),
        ("learner.tensor_parallel=2", "learner.tensor_parallel", "rollout.tensor_parallel"),
        ("zzz=2", "zzz", "schema.py"),
        ("rl=2", "rl", "rl.enabled"),
        ("rl.max_lag", "override", "field=value"),
    ],
)
def test_unknown_field_is_named_with_what_may_be_meant(override, field, hint):
    with pytest.raises(ConfigError) as caught:
        load(Config(), [override])
    assert caught.value.field == field
    assert hint in caught.value.fix


@pytest.mark.parametrize("old", RENAMED)
def test_every_old_name_gives_the_new_one(old):
    new = RENAMED[old]
    inside = [name.removeprefix(new) for name in fields() if f"{name}.".startswith(f"{new}.")]
    assert inside, f"{new} is no field or section"
    with pytest.raises(ConfigError) as caught:
        load(Config(), [f"{old}{inside[0]}=1"])
    assert caught.value.field == f"{old}{inside[0]}"
    assert caught.value.rule == f"is now called {new}{inside[0]}"


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("rl.max_lag=2.5", "whole number"),
        ("rl.max_lag=two", "whole number"),
        ("rl.lr=fast", "a number"),
        ("rl.lr=null", "a number"),
        ("rl.lr=[", "valid value"),
        ("rl.enabled=3", "true or false"),
        ("rl.enabled=maybe", "true or false"),
        ("budget.train=8", "list of whole numbers"),
        ("budget.train=[8,x]", "list of whole numbers"),
        ("data.chain.ops=[+1,-3]", "list of texts"),
        ("budget.codec=roman", "digits, sentence"),
        ("rl.max_lag=${rl.nothing}", "whole number"),
    ],
)
def test_wrong_type_names_field_and_rule(override, wanted):
    with pytest.raises(ConfigError) as caught:
        load(Config(), [override])
    assert caught.value.field == override.partition("=")[0]
    assert wanted in caught.value.rule
    assert caught.value.fix


def test_yaml_gives_back_the_same_configuration():
    config = load(
        Config(),
        ["run.name=0123", "budget.train=[4,9]", 'data.chain.ops=["+1","*3"]', "rl.lr=1e-7"],
    )
    assert from_yaml(to_yaml(config)) == config


def test_yaml_names_only_what_differs():
    assert from_yaml("rl: {max_lag: 5}") == load(Config(), ["rl.max_lag=5"])
    assert from_yaml("") == Config()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("rl: {lag: 5}", "rl.lag"),
        ("run: {name: 0123}", "run.name"),
        ("rl: {max_lag: x}", "rl.max_lag"),
        ("rl: [", "configuration"),
        ("- 1", "configuration"),
        ("3", "configuration"),
    ],
)
def test_broken_yaml_is_a_config_error(text, field):
    with pytest.raises(ConfigError) as caught:
        from_yaml(text)
    assert caught.value.field == field


def test_fields_reach_into_every_section():
    assert fields()["rl.reward.name"] is str
    assert fields()["student.tiny.layers"] is int
    assert "rl" not in fields()


@pytest.mark.parametrize("key", ["distill.contrastive", "distil.contrastive"])
def test_a_field_that_was_removed_says_what_to_do_instead(key):
    with pytest.raises(ConfigError, match="does not exist any more") as caught:
        load(Config(), [f"{key}=false"])
    assert caught.value.field == key
    assert "distill.allocation.name=tied" in caught.value.fix
    section, name = key.split(".")
    with pytest.raises(ConfigError, match="does not exist any more"):
        from_yaml(f"{section}:\n  {name}: true\n")
