"""The RL loop: asynchronous GRPO against the four roles, on one screen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bard_ray.errors import InvariantError, first_error
from bard_ray.rewards.reward import Reward
from bard_ray.rl.admission import AdmissionWindow, Ledger, window_slots
from bard_ray.rl.bins import BudgetBins
from bard_ray.rl.flow import FlowSpec, GroupFlow, RLRoles
from bard_ray.rl.observe import StepTimes, binned_lags, max_lag, step_metrics
from bard_ray.rl.sequences import train_sequences
from bard_ray.roles import LossSpec


@dataclass(frozen=True)
class RLSpec:
    """The algorithm's constants; `lr` maps a step to its learning rate."""

    steps: int
    prompts_per_step: int
    max_lag: int
    std_normalise: bool
    loss: LossSpec
    flow: FlowSpec
    bins: BudgetBins
    lr: Callable[[int], float]


@dataclass
class RLState:
    """What a restart needs.

    That is: steps done, weight version of step 0, and where every admitted group went.
    """

    step: int = 0
    base_version: int = 0
    ledger: Ledger = field(default_factory=Ledger)


OnStep = Callable[[RLState, dict[str, float]], Awaitable[None]]


async def train_rl(
    roles: RLRoles, reward: Reward, spec: RLSpec, state: RLState, on_step: OnStep
) -> None:
    """Train for `spec.steps` optimizer steps, going on from `state`.

    Consumes groups from the flow in admission order; waits for the next trainable batch, the
    learner and the weight transfer, in that order. Generation goes on meanwhile. Each step is one
    weight version.

    Raises:
        InvariantError: the ledger does not balance, or a token is older than `max_lag` steps.
    """
    window = AdmissionWindow(
        window_slots(spec.max_lag, spec.prompts_per_step), next_number=state.ledger.consumed
    )
    flow = GroupFlow(roles, reward, spec.flow, window, state.ledger)
    try:
        async with asyncio.TaskGroup() as tasks:
            flow.start(tasks)
            while state.step < spec.steps:
                await _step(roles, spec, state, flow, on_step)
            flow.stop()
    except BaseExceptionGroup as errors:
        raise first_error(errors) from errors


async def _step(
    roles: RLRoles, spec: RLSpec, state: RLState, flow: GroupFlow, on_step: OnStep
) -> None:
    clock = StepTimes()
    groups = await flow.take(spec.prompts_per_step)
    clock.lap("wait_s")
    version = state.base_version + state.step
    check_lag(max_lag(groups, version), spec.max_lag)
    stats = await roles.learner.step(
        train_sequences(groups, spec.bins, std_normalise=spec.std_normalise),
        spec.loss,
        spec.lr(state.step),
    )
    clock.lap("train_s")
    stall_s = await roles.sampler.publish(await roles.learner.publish(), version + 1)
    clock.lap("publish_s")
    flow.release(len(groups))
    state.step += 1
    state.ledger.check(flow.in_flight)
    values = step_metrics(groups, version, flow, clock, stall_s)
    await on_step(state, {**values, **binned_lags(groups, version, spec.bins), **stats.values})


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
