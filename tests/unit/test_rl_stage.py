"""The RL stage over several commands, with fake roles."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.driver import Driver
from actors.stages.context import Stage
from actors.stages.rl import rl_stage
from bard_ray.checkpoint import described_directory
from bard_ray.config.load import load
from bard_ray.files import write_json
from bard_ray.rl.versions import WeightVersions
from bard_ray.rundir import RunDirectory
from recipes import bard_tiny
from tests.loop.fakes import FakeLearner, FakeSampler, FakeVerifier

SMALL = ["budget.train=[4,6]", "rl.prompts_per_step=2", "rl.group_size=4", "rl.kl_coef=0"]


class Learner(FakeLearner):
    async def begin(self, *_: object) -> None:
        pass

    async def save(self, path: str) -> None:
        (Path(path) / "weights").touch()

    async def restore(self, path: str, _: object) -> None:
        assert (Path(path) / "weights").exists()

    async def export(self, path: str) -> None:
        pass


class Sampler(FakeSampler):
    replaced = 0

    async def stats(self) -> list[dict[str, float]]:
        return [{"busy_s": 1.0, "up_s": 2.0}]


class Verifier(FakeVerifier):
    def metrics(self) -> dict[str, float]:
        return {}

    stats = metrics


def anything(*_: object, **__: object) -> Any:
    return nullcontext(SimpleNamespace(update=anything))


@pytest.fixture
def command(tmp_path):
    """One command: the RL stage up to so many steps; gives its facts and the wall seconds."""

    async def run(steps: int) -> tuple[dict[str, Any], float]:
        overrides = [f"run.dir={tmp_path}", f"rl.steps={steps}", "rl.checkpoint_every=2", *SMALL]
        config = load(bard_tiny.config(), overrides)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        roles = SimpleNamespace(learner_ready=done, sampling_ready=done, reference=None)
        roles.learner, roles.sampler, roles.verifier = Learner(), Sampler(), Verifier()
        context = SimpleNamespace(
            config=config,
            run=RunDirectory.open(config),
            metrics=SimpleNamespace(write=anything, truncate_after=anything),
            versions=WeightVersions(),
            roles=roles,
            weights_before=lambda stage: "student",
            deployment=SimpleNamespace(start=None),
        )
        driver = Driver(config, cast(Any, None), cast(Any, SimpleNamespace(stage=anything)))
        stage = Stage("rl", "", "step", rl_stage, needs_roles=False)
        live = SimpleNamespace(stage=anything, refresh=anything)
        try:
            await driver._run_stage(cast(Any, context), stage, (1, 1), cast(Any, live))
            return dict(context.run.facts("rl")), context.run.wall_s["rl"]
        finally:
            context.run.close()

    return lambda steps: asyncio.run(run(steps))


@pytest.fixture
def checkpoint(tmp_path):
    """The checkpoint of the stage: reads the state of the loop, or replaces its wall seconds."""
    path = tmp_path / "bard_tiny" / "checkpoints" / "rl-state"

    def state(**wall_s: float) -> dict[str, Any]:
        saved = json.loads((path / "loop.json").read_text())
        if wall_s:
            del saved["wall_s"]
            with described_directory(path, step=saved["step"]) as aside:
                (aside / "learner").mkdir()
                (aside / "learner" / "weights").touch()
                write_json(aside / "loop.json", saved | {k: v for k, v in wall_s.items() if v})
        return saved

    return state


def test_a_continued_stage_counts_the_seconds_of_earlier_commands(command, checkpoint):
    facts, wall_s = command(2)
    assert (facts["steps"], facts["earlier_wall_s"]) == (2, 0.0)
    assert 0 < checkpoint()["wall_s"] <= wall_s
    checkpoint(wall_s=1000.0)  # as if it had taken so long
    facts, wall_s = command(4)
    assert (facts["steps"], facts["earlier_wall_s"]) == (4, 1000.0)
    assert wall_s >= checkpoint()["wall_s"] > 1000.0


@pytest.mark.parametrize("earlier_s", [500.0, 0.0])  # 0: a checkpoint of an older version
def test_a_stage_that_ends_early_counts_the_seconds_up_to_its_checkpoint(
    command, checkpoint, tmp_path, earlier_s
):
    command(4)
    # as if the command had been killed behind its checkpoint
    state = {"stages": {"data": {"wall_s": 1.0, "facts": {}}}}
    write_json(tmp_path / "bard_tiny" / "state.json", state)
    checkpoint(wall_s=earlier_s)
    facts, wall_s = command(3)
    assert (facts["steps"], facts["steps_asked"]) == (4, 3)
    assert facts["earlier_wall_s"] == earlier_s <= wall_s < earlier_s + 300
