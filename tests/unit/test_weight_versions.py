"""No number stands for two sets of weights."""

from __future__ import annotations

import json

from bard_ray.rl.state import RLState
from bard_ray.rl.versions import WeightVersions
from tests.loop.fakes import FakeLearner, FakeSampler, LoopRun


def test_versions_are_handed_out_once():
    versions = WeightVersions()
    assert [versions.newest, versions.next(), versions.next(), versions.newest] == [0, 1, 2, 2]


def test_restored_weights_have_the_version_they_were_saved_with():
    versions = WeightVersions()
    assert versions.restored(41) == 41
    assert versions.next() == 42


def test_restored_weights_get_a_new_version_where_theirs_is_taken():
    versions = WeightVersions()
    taken = [versions.next() for _ in range(3)]
    assert versions.restored(2) == 4
    assert taken == [1, 2, 3]


async def test_a_resumed_run_counts_on_from_the_version_it_was_saved_with():
    smoke_test = WeightVersions()
    for _ in range(5):
        smoke_test.next()
    first = await LoopRun(steps=3, state=RLState(versions=smoke_test)).go()
    assert first.records[-1]["rl/version"] == 8
    saved = json.loads(json.dumps(first.state.to_json()))
    state = RLState.from_json(saved, WeightVersions())
    learner = FakeLearner(logits=first.learner.logits)
    rest = await LoopRun(steps=5, state=state, learner=learner, sampler=FakeSampler()).go()
    assert [r["rl/version"] for r in rest.records] == [9, 10]
