"""Running statistics: literal numbers, and the round trip through a checkpoint."""

import json
from dataclasses import asdict

import pytest

from bard_ray.records import NO_BUDGET
from bard_ray.rewards.parts import group_parts
from bard_ray.rewards.shapes.cap_linear import CapLinear
from bard_ray.rewards.stats import BatchStats, Means, rollout_stats
from tests.unit.reward_cases import RIGHT, WRONG, group, rollout


def stats_of(*graded):
    return rollout_stats(group_parts(group(*graded), CapLinear(), answer_limit=16))


FIRST = stats_of((rollout(30), RIGHT), (rollout(0), WRONG))
SECOND = stats_of((rollout(20), RIGHT), (rollout(20), RIGHT), (rollout(40, NO_BUDGET), WRONG))


def test_the_first_step_sets_the_means():
    stats = BatchStats()
    stats.observe(FIRST)
    assert stats.step == 1
    assert stats.overall == Means(accuracy=0.5, tokens=15.0, skipped=0.5, overrun=0.5)
    assert stats.by_budget == {"20": stats.overall}


def test_later_steps_have_weight_one_tenth():
    stats = BatchStats()
    stats.observe(FIRST)
    stats.observe(SECOND)
    found = asdict(stats.by_budget["20"])
    assert found == pytest.approx(
        {"accuracy": 0.55, "tokens": 15.5, "skipped": 0.45, "overrun": 0.45}
    )
    assert stats.by_budget["none"] == Means(0.0, 40.0, 0.0, 0.0)
    assert stats.overall is not None
    assert stats.overall.tokens == pytest.approx(0.9 * 15 + 0.1 * 80 / 3)


def test_a_step_without_groups_only_advances_the_step():
    stats = BatchStats()
    stats.observe([])
    assert (stats.step, stats.overall) == (1, None)


def test_a_json_round_trip_is_exact():
    stats = BatchStats()
    for batch in (FIRST, SECOND, SECOND):
        stats.observe(batch)
    assert BatchStats.from_json(json.loads(json.dumps(asdict(stats)))) == stats
    assert BatchStats.from_json(json.loads(json.dumps(asdict(BatchStats())))) == BatchStats()
