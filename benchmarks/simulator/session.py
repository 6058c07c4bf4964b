"""A cluster on this machine with all roles running and a briefly trained student."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors.cluster.env import apply_driver_env
from actors.cluster.ray_cluster import Cluster
from actors.placement.deployment import Deployment
from actors.placement.model_paths import student_directory
from actors.placement.plan import plan_placement
from actors.stages.context import Context
from actors.stages.order import stages_of
from actors.stages.rl import rl_optim
from bard_ray.config.load import load
from bard_ray.config.schema import Config
from bard_ray.metrics import MetricsWriter
from bard_ray.preflight.check import check
from bard_ray.progress import Console
from bard_ray.rundir import RunDirectory
from benchmarks.student import SHORT_STUDENT
from recipes.bard_tiny import config as tiny

# The student does not change, so that one measured workload is valid for every run.
SETUP = [*SHORT_STUDENT, "rl.lr=1e-12"]


def session_config(directory: str, overrides: list[str]) -> Config:
    """The tiny recipe with a short-lived student."""
    where = [f"run.dir={directory}", "run.name=scaling"]
    config = load(tiny(), [*SETUP, *where, *overrides])
    check(config)
    return config


@asynccontextmanager
async def open_session(config: Config) -> AsyncIterator[Context]:
    """Start all roles, train the student and load it everywhere; stop everything at the end."""
    apply_driver_env()
    run, console = RunDirectory.open(config), Console(sys.stderr)
    cluster = Cluster(config.cluster, run.path / "logs", verbose=False)
    student = student_directory(config, run.path)
    deployment = Deployment(cluster, config, plan_placement(config), student)
    try:
        with MetricsWriter(run.path) as metrics:
            context = Context(config, run, metrics, student, deployment)
            await deployment.start()
            await _train_student(context, console)
            yield context
    finally:
        await deployment.close()
        run.close()


async def _train_student(context: Context, console: Console) -> None:
    stages = [stage for stage in stages_of(context.config) if stage.name != "rl"]
    for index, stage in enumerate(stages, start=1):
        place = index, len(stages)
        with console.stage(*place, stage.name, stage.title, stage.unit) as progress:
            facts = await stage.work(context, progress)
        context.run.finish(stage.name, 0.0, facts)
    roles, start = context.roles, context.weights_before("rl")
    await asyncio.gather(roles.learner_ready, roles.sampling_ready)
    await roles.learner.begin(start, rl_optim(context.config.rl))
    if roles.reference is not None:
        await roles.reference.load(start)
    await roles.sampler.publish(await roles.learner.publish(), context.versions.next())
