"""The RL loop: asynchronous GRPO against the four roles, on one screen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from bard_ray.errors import InvariantError, first_error
from bard_ray.learn.spec import LossSpec
from bard_ray.rewards.reward import GroupReward
from bard_ray.rl.bins import BudgetBins
from bard_ray.rl.flow import FlowSpec, GroupFlow, RLRoles
from bard_ray.rl.observe import StepTimes, max_lag, step_metrics
from bard_ray.rl.publish import Publisher
from bard_ray.rl.sequences import train_sequences
from bard_ray.rl.state import RLState


@dataclass(frozen=True)
class RLSpec:
    """The algorithm's constants; `lr` maps a step to its learning rate."""

    steps: int
    std_normalize: bool
    loss: LossSpec
    flow: FlowSpec
    bins: BudgetBins
    lr: Callable[[int], float]


OnStep = Callable[[RLState, dict[str, float]], Awaitable[None]]


async def train_rl(
    roles: RLRoles, reward: GroupReward, spec: RLSpec, state: RLState, on_step: OnStep
) -> None:
    """Train until `spec.steps` optimizer steps are done, those of `state` included.

    Consumes groups from the flow in admission order; waits for the next trainable batch, then for
    the learner. Generation continues meanwhile, and so does the learner while its weights travel:
    see `bard_ray.rl.publish`. Each step is one weight version.

    Raises:
        InvariantError: the ledger does not balance, or a token is older than `max_lag` steps.
    """
    flow = GroupFlow(roles, reward, spec.flow, state)
    try:
        async with asyncio.TaskGroup() as tasks:
            flow.start(tasks)
            publisher = Publisher(roles, tasks)
            while state.step < spec.steps:
                await _step(roles, spec, state, flow, publisher, on_step)
            flow.stop()
            await publisher.idle()
    except BaseExceptionGroup as errors:
        raise first_error(errors) from errors


async def _step(
    roles: RLRoles,
    spec: RLSpec,
    state: RLState,
    flow: GroupFlow,
    publisher: Publisher,
    on_step: OnStep,
) -> None:
    clock = StepTimes()
    rewarded = await flow.take(spec.flow.lag.prompts_per_step)
    groups = [each.group for each in rewarded]
    clock.lap("wait_s")
    version = state.versions.newest
    check_lag(max_lag(groups, version), spec.flow.lag.max_lag)
    stats = await roles.learner.step(
        train_sequences(groups, spec.bins, std_normalize=spec.std_normalize),
        spec.loss,
        spec.lr(state.step),
    )
    clock.lap("train_s")
    # Before the next groups are let in: they see the statistics of this step.
    state.stats.observe(flow.take_seen())
    flow.trained(len(groups))
    await publisher.send(state.versions.next(), on_arrival=partial(flow.release, len(groups)))
    clock.lap("publish_s")
    state.step += 1
    state.asked = flow.asked()
    state.ledger.check(flow.in_flight)
    transfers = publisher.take_metrics()
    metrics = step_metrics(rewarded, version, flow, clock, spec.bins)
    await on_step(state, {**metrics, **transfers, **stats.values})


def check_lag(lag: int, bound: int) -> None:
    """Stop the run if a token is older than the admission window allows.

    Raises:
        InvariantError: it is.
    """
    if lag > bound:
        msg = (
            f"a token is {lag} optimizer steps old; the admission window bounds the lag at {bound}"
        )
        raise InvariantError(msg)
