"""Every recipe loads, passes the checks and can be planned; the 8B one also at tiny size."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import recipes
from actors.placement.plan import check_memory, check_resources, plan_placement
from bard_ray.config.load import from_yaml, load, to_yaml
from bard_ray.preflight.check import problems
from recipes import bard_8b, bard_tiny

NAMES = [module.name for module in pkgutil.iter_modules(recipes.__path__)]
TINY_OVERRIDES = (Path(recipes.__path__[0]) / "tiny_overrides.txt").read_text().split()


@pytest.mark.parametrize("name", NAMES)
def test_recipe_can_run_on_a_cluster_of_its_size(name):
    config = load(importlib.import_module(f"recipes.{name}").config(), [])
    assert problems(config) == []
    plan = plan_placement(config)
    check_memory(plan)
    check_resources(plan, {"CPU": plan.total("CPU"), "GPU": plan.total("GPU")})


@pytest.mark.parametrize("name", NAMES)
def test_resolved_yaml_of_a_recipe_is_the_recipe(name):
    config = importlib.import_module(f"recipes.{name}").config()
    assert from_yaml(to_yaml(config)) == load(config, [])


def test_tiny_recipe_holds_out_what_it_says():
    budget = bard_tiny.config().budget
    assert budget.held_out == [7, 13, 21, 26]
    assert sorted(budget.train + budget.held_out) == list(range(4, 31))
    assert set(budget.held_out) < set(bard_tiny.config().evaluate.budgets)


def test_large_recipe_fits_two_cpus_with_the_tiny_overrides():
    config = load(bard_8b.config(), TINY_OVERRIDES)
    assert problems(config) == []
    plan = plan_placement(config)
    check_resources(plan, {"CPU": 2.0})
    check_memory(plan, host_gib=8)
    assert plan.total("GPU") == 0
    assert config.base.enabled, "a tiny student without pretraining learns nothing in RL"
