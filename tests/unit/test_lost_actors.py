"""The message about a lost actor that nothing can replace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions as rex

from actors.cluster.losses import oom_kills, reason_of
from actors.learner.client import RayLearner
from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import ActorLostError, DataError
from bard_ray.learn.spec import OptimSpec

RAYS_PARAGRAPH = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker"
    " exit detail: Worker unexpectedly exits with a connection error code 2. End of file. There are"
    " some potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high"
    " memory usage. (2) ray stop --force is called. (3) The worker is crashed unexpectedly due to"
    " SIGSEGV or other unexpected errors."
)


def died(message: str) -> rex.ActorDiedError:
    error = rex.ActorDiedError()
    error.error_msg = message
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (died(RAYS_PARAGRAPH), "its process was killed or crashed"),
        (died("The actor is dead because its node has died."), "its node was lost"),
        (rex.OutOfMemoryError("..."), "Ray killed its process because the node was low on memory"),
        (rex.ActorUnavailableError("gone", None), "it cannot be reached"),
        (rex.ActorDiedError(), "it died"),
    ],
)
def test_the_reason_is_a_few_words(error, reason):
    assert reason_of(error) == reason


def test_the_kernel_says_whether_memory_ran_out():
    reason = reason_of(died(RAYS_PARAGRAPH), oom_killed=True)
    assert reason == "the kernel killed its process because memory ran out (OOM)"
    assert reason_of(died("its node has died"), oom_killed=True) == "its node was lost"


@pytest.mark.parametrize(
    ("groups", "files", "kills"),
    [
        ("0::/job", {"sys/fs/cgroup/job/memory.events": "oom 1\noom_kill 3\n"}, 3),
        ("0::/elsewhere", {"sys/fs/cgroup/memory.events": "oom_kill 2\n"}, 2),
        ("4:memory:/job", {"sys/fs/cgroup/memory/job/memory.oom_control": "oom_kill 1\n"}, 1),
        ("0::/", {"proc/vmstat": "nr_free_pages 7\noom_kill 5\n"}, 5),
        ("", {}, 0),
    ],
)
def test_the_count_of_the_kernel_is_found_in_every_kind_of_control_group(
    tmp_path, groups, files, kills
):
    for name, text in {"proc/self/cgroup": groups + "\n", **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert oom_kills(tmp_path) == kills


def test_this_machine_has_a_count():
    assert oom_kills(Path("/")) >= 0


def rank(answer: Callable[[], Any]) -> Any:
    """A handle whose every call does the same."""
    method = SimpleNamespace(remote=lambda *args: answer())
    return SimpleNamespace(begin=method)


async def after(seconds: float, error: Exception | None) -> None:
    await asyncio.sleep(seconds)
    if error is not None:
        raise error


def learner(*answers: Callable[[], Any]) -> RayLearner:
    def lost(rank: int, error: BaseException) -> ActorLostError:
        return ActorLostError(f"learner rank {rank}", reason_of(error), f"learner-{rank}.log")

    return RayLearner([rank(a) for a in answers], LearnerConfig(), "float32", lost)


async def test_the_lost_rank_is_named_and_not_the_one_that_noticed_first():
    noticed = RuntimeError("[gloo] Connection closed by peer")
    group = learner(lambda: after(0, noticed), lambda: after(0.05, died(RAYS_PARAGRAPH)))
    with pytest.raises(ActorLostError, match="learner rank 1 was lost: its process was killed"):
        await group.begin("model", OptimSpec())


async def test_an_error_that_no_loss_explains_is_raised_as_it_is():
    broken = RuntimeError("a bug")
    group = learner(lambda: after(0, broken), lambda: after(0.05, None))
    with pytest.raises(RuntimeError, match="a bug"):
        await group.begin("model", OptimSpec())


async def test_a_designed_error_does_not_wait_for_the_other_ranks():
    bad = DataError("model", "its weights lack x", "Name a complete model directory.")
    waiting = asyncio.Event()
    group = learner(lambda: after(0, bad), waiting.wait)
    with pytest.raises(DataError):
        await asyncio.wait_for(group.begin("model", OptimSpec()), 5)
