"""SIGKILL of the stateless workers during a run: they are replaced and no group is lost."""

from __future__ import annotations

import os
import signal

import pytest

from tests.engines.runs import Recipe

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_run_survives_the_loss_of_its_rollout_worker_verifier_and_reference(tmp_path):
    recipe = Recipe(tmp_path, "chaos")
    process = recipe.start("rl.steps=8", "evaluate.enabled=false")
    for step, victim in ((1, "rollout-0"), (3, "verifier-0"), (5, "reference-0")):
        recipe.wait_for_rl_step(step, process)
        os.kill(recipe.actor_pid(victim), signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    facts = recipe.facts("rl")
    assert facts["workers_replaced"] >= 1
    assert facts["trained"] == 8 * 4
    assert facts["failed"] == 0
    assert facts["admitted"] == facts["trained"] + facts["zero_variance"]
    assert recipe.survivors() == []
