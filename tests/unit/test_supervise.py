"""The failure policy: what is restarted, what is raised."""

from __future__ import annotations

import asyncio

import pytest
import ray.exceptions as rex

from actors.cluster.supervise import Decision, call, decide, root_cause
from bard_ray.errors import CallTimeoutError, ConfigError, InfrastructureError, WeightSyncError


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (rex.ActorDiedError(), Decision.RESTART),
        (rex.ActorUnavailableError("gone", None), Decision.RESTART),
        (CallTimeoutError("a step", 1.0), Decision.RESTART),
        (InfrastructureError("engine step"), Decision.RESTART),
        (WeightSyncError("names differ"), Decision.RAISE),
        (ConfigError("a", 1, "b", "c"), Decision.RAISE),
        (ValueError("who knows"), Decision.RAISE),
    ],
)
def test_policy(error, decision):
    assert decide(error) is decision


def test_the_root_cause_of_a_failed_task_in_a_task_group():
    cause = WeightSyncError("version 3 after version 4")
    failed = rex.RayTaskError("update", "traceback", cause)
    assert root_cause(ExceptionGroup("tasks", [failed])) is cause


async def test_a_call_that_does_not_answer_ends_at_its_limit():
    with pytest.raises(CallTimeoutError, match=r"a learner step did not return within 0\.05 s"):
        await call(asyncio.sleep(5), 0.05, "a learner step")
