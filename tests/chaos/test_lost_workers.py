"""SIGKILL in the middle of a run.

Stateless workers are replaced and the run ends as if nothing happened; a learner rank ends the
command, which says what was lost and where it resumes.
"""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.engines.runs import Recipe

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_run_survives_the_loss_of_its_rollout_worker_verifier_and_reference(tmp_path):
    recipe = Recipe(tmp_path, "chaos")
    shape = ["evaluate.enabled=false", "learner.ranks=2", "rl.checkpoint_every=4"]
    process = recipe.start("rl.steps=8", *shape)
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
    loses_a_learner_rank(recipe, "rl.steps=500", *shape)


def loses_a_learner_rank(recipe: Recipe, *overrides: str) -> None:
    """The same run, made longer, and killed behind the checkpoint of step 12."""
    process = recipe.start(*overrides)
    recipe.wait_for_rl_step(13, process)
    os.kill(recipe.actor_pid("learner-1"), signal.SIGKILL)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 3, out
    (message,) = [line for line in out.splitlines() if line.startswith("error")]
    log = recipe.path / "logs" / "learner-1.log"
    assert f"learner rank 1 was lost: its process was killed or crashed. Its log: {log}." in message
    assert re.search(r"The same command resumes from step (12|16) of stage rl\.", message)
    assert "SIGSEGV" not in out
    assert "Traceback" not in out
    assert recipe.survivors() == []
