"""The instrumented start of the tiny recipe; run by `cold_start`.

    python -m benchmarks.start_parts gradient|rl STARTED MODEL

STARTED is the start time of the process in seconds since the epoch. Prints one JSON
object: seconds by part.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from actors.cluster.env import apply_driver_env
from actors.cluster.ray_cluster import Cluster
from actors.placement.deployment import Roles, Starter, bundles
from actors.placement.plan import plan_placement
from actors.stages.order import stages_of
from actors.stages.rl import rl_optim, rl_spec
from actors.stages.sft import sft_optim
from bard_ray.config.load import load
from bard_ray.config.schema import Config
from bard_ray.data.prompt import load_prompt_format
from bard_ray.distill.corpus import base_corpus, to_sequences
from bard_ray.learn.spec import LossSpec
from bard_ray.preflight.check import check
from bard_ray.records import TrainSequence
from bard_ray.rewards.reward import make_reward
from bard_ray.rl.flow import RLRoles
from bard_ray.rl.loop import train_rl
from bard_ray.rl.state import RLState
from benchmarks.common import Clock
from benchmarks.student import ONLY_RL
from recipes.bard_tiny import config as recipe


class Laps:
    """Seconds by part, for consecutive parts."""

    def __init__(self, started: float) -> None:
        self.parts = {"imports": time.time() - started}
        self._clock = Clock()

    def restart(self) -> None:
        """Begin the next part without recording one."""
        self._clock = Clock()

    def end(self, name: str) -> None:
        """End a part and begin the next one."""
        self.parts[name] = self._clock.seconds
        self.restart()


class StepTakenError(Exception):
    """Ends the RL loop after its first step."""


async def start(config: Config, model: str, kind: str, laps: Laps) -> None:
    """Start cluster and roles, then take the first step of the kind."""
    plan = plan_placement(config)
    with tempfile.TemporaryDirectory() as logs:
        cluster = Cluster(config.cluster, Path(logs), verbose=False)
        try:
            await asyncio.to_thread(cluster.connect)
            laps.end("ray")
            await cluster.reserve(bundles(plan))
            laps.end("placement")
            roles = Starter(cluster, plan, config, model).start()
            engines = asyncio.create_task(_seconds_until(roles.sampling_ready))
            if kind == "rl":
                await first_rl_step(config, roles, model, laps)
            else:
                await first_gradient_step(config, roles, model, laps)
            laps.parts["engines"] = await engines
            await roles.stop()
        finally:
            cluster.close()


async def _seconds_until(ready: asyncio.Task[None]) -> float:
    clock = Clock()
    await ready
    return clock.seconds


async def first_gradient_step(config: Config, roles: Roles, model: str, laps: Laps) -> None:
    """Load the model into the learner, then take one step of the first supervised stage.

    As in a run, the batch is prepared while the learner starts.
    """
    batch = asyncio.create_task(asyncio.to_thread(first_batch, config, model))
    laps.parts["learner"] = await _seconds_until(roles.learner_ready)
    sequences = await batch
    laps.restart()
    await roles.learner.begin(model, sft_optim(config.base))
    laps.end("load")
    await roles.learner.step(sequences, LossSpec("nll"), config.base.lr)
    laps.end("step")


def first_batch(config: Config, model: str) -> list[TrainSequence]:
    """A batch of the first supervised stage."""
    prompts = load_prompt_format(model, config.student, config.budget.codec)
    rows = base_corpus(config.data, config.base.batch_rows, config.run.seed)
    return to_sequences(rows, prompts, config.student.max_len)[0]


async def first_rl_step(config: Config, roles: Roles, model: str, laps: Laps) -> None:
    """Load the model into learner, reference and engines, then take one step of the RL loop."""
    laps.parts["learner"] = await _seconds_until(roles.learner_ready)
    await roles.sampling_ready
    laps.restart()
    if roles.reference is not None:
        await roles.reference.load(model)
    await roles.learner.begin(model, rl_optim(config.rl))
    state = RLState()
    await roles.sampler.publish(await roles.learner.publish(), state.versions.next())
    laps.end("load")

    async def stop_after_one(now: RLState, values: dict[str, float]) -> None:
        laps.end("step")
        raise StepTakenError

    loop_roles = RLRoles(roles.sampler, roles.verifier, roles.learner, roles.reference)
    reward = make_reward(config.rl.reward)
    with suppress(StepTakenError):
        await train_rl(loop_roles, reward, rl_spec(config), state, stop_after_one)


def main() -> None:
    """Run one start and print its parts."""
    kind, started, model = sys.argv[1:]
    apply_driver_env()
    config = load(recipe(), list(ONLY_RL) if kind == "rl" else [])
    check(config)
    stages_of(config)
    laps = Laps(float(started))
    asyncio.run(start(config, model, kind, laps))
    print(json.dumps({name: round(seconds, 2) for name, seconds in laps.parts.items()}))


if __name__ == "__main__":
    main()
