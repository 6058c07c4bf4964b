"""The RL stage: builds the loop's parts from the configuration, runs it, and keeps it resumable."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bard_ray.budget.sampler import BudgetSource
from bard_ray.checkpoint import described_directory, is_complete
from bard_ray.config.schema import Config, RLConfig
from bard_ray.data.questions import split_rows, training_questions
from bard_ray.errors import DataError
from bard_ray.files import recover, write_json
from bard_ray.learn.correction import CORRECTIONS
from bard_ray.learn.schedule import warmup_linear
from bard_ray.learn.spec import LossSpec, OptimSpec
from bard_ray.records import GroupRequest, Question, SamplingSpec
from bard_ray.rewards.reward import make_reward
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.admission import LagWindow
from bard_ray.rl.bins import BudgetBins
from bard_ray.rl.flow import FlowSpec, RLRoles
from bard_ray.rl.loop import RLSpec, train_rl
from bard_ray.rl.state import RLState
from bard_ray.rundir import RL_STATE

if TYPE_CHECKING:
    from actors.stages.context import Context
    from bard_ray.progress import Progress

# Groups in a row without a trainable one, in multiples of a step's prompts, before the run is
# called stuck.
STUCK_AFTER_STEPS = 20
SEED_STRIDE = 7919  # admission number n samples with run seed + stride * n


def request_maker(config: Config) -> Callable[[int, BatchStats], GroupRequest]:
    """Admission number to work.

    Question, budgets and seed follow from the number alone, but for budget samplers that go by the
    accuracy so far.
    """
    question = training_questions(config.data, config.run.seed)
    budgets, seed = BudgetSource.of(config.budget, config.rl, config.run.seed), config.run.seed

    def make(number: int, stats: BatchStats) -> GroupRequest:
        asked = question(number)
        drawn = budgets.draw(number, asked, stats.accuracy_by_tokens())
        return GroupRequest(number, asked, drawn, seed + SEED_STRIDE * number)

    return make


def validate_draws(config: Config) -> int:
    """Draw budgets once for every training question of a data set; returns how many there were.

    Not each of them may have what the sampler goes by. A sampler that needs nothing but a question
    is not tried on them, nor is one of the synthetic task: its questions are all alike, and
    `bard_ray.preflight.check` has drawn for one.

    Raises:
        ConfigError, DataError: the sampler cannot deal with a question.
    """
    if config.data.source == "chain" or not config.rl.enabled:
        return 0
    source = BudgetSource.of(replace(config.budget, none_share=0.0), config.rl, config.run.seed)
    with suppress(DataError):
        source.draw(0, Question("bare", (), ""))
        return 0
    rows = split_rows(config.data, need_chains=False)[0]
    for row in rows:
        source.draw(0, row.question)
    return len(rows)


def rl_spec(config: Config) -> RLSpec:
    """The loop's constants."""
    rl = config.rl
    flow = FlowSpec(
        request=request_maker(config),
        sampling=SamplingSpec(rl.temperature, rl.max_new_tokens),
        lag=LagWindow(rl.max_lag, rl.prompts_per_step),
        total_groups=rl.steps * rl.prompts_per_step,
        max_untrainable=STUCK_AFTER_STEPS * rl.prompts_per_step,
        oversample=rl.oversample,
    )
    correction = CORRECTIONS.build(rl.correction.name, rl.correction.params)
    loss = LossSpec("grpo", rl.clip_low, rl.clip_high, rl.kl_coef, rl.temperature, correction)
    return RLSpec(
        rl.steps,
        rl.std_normalize,
        loss,
        flow,
        bins=BudgetBins.of(config.budget.train),
        lr=lambda step: warmup_linear(step, rl.steps, rl.warmup_steps, rl.lr, rl.min_lr_ratio),
    )


def rl_optim(rl: RLConfig) -> OptimSpec:
    """Optimizer of the RL stage."""
    return OptimSpec((rl.beta1, rl.beta2), rl.weight_decay, rl.grad_clip)


async def rl_stage(context: Context, progress: Progress) -> dict[str, Any]:
    """Train from the SFT student, or from the newest checkpoint of this stage, and export."""
    config, roles = context.config, context.roles
    await asyncio.gather(roles.learner_ready, roles.sampling_ready)
    reference = roles.reference if config.rl.kl_coef > 0 else None
    if reference is not None:
        await reference.load(context.weights_before("rl"))
    state = await _begin(context)
    context.versions = max(context.versions, state.step)  # a resumed run numbers on as before
    state.base_version = context.next_version() - state.step
    await roles.sampler.publish(await roles.learner.publish(), state.base_version + state.step)
    progress.update(state.step, config.rl.steps)

    async def on_step(now: RLState, values: Mapping[str, float]) -> None:
        context.versions = now.base_version + now.step
        context.metrics.write("rl", now.step, {**values, **roles.verifier.metrics()})
        progress.update(now.step, config.rl.steps, _detail(values))
        if (
            config.rl.checkpoint_every
            and now.step % config.rl.checkpoint_every == 0
            and now.step < config.rl.steps
        ):
            await _save(context, now)

    before = await roles.sampler.stats()
    loop_roles = RLRoles(roles.sampler, roles.verifier, roles.learner, reference)
    await train_rl(loop_roles, make_reward(config.rl.reward), rl_spec(config), state, on_step)
    busy = busy_share(before, await roles.sampler.stats())
    await roles.learner.export(str(context.run.checkpoint("rl").resolve()))
    shutil.rmtree(_state_path(context), ignore_errors=True)
    return asdict(state.ledger) | {
        "workers_replaced": roles.sampler.replaced,
        "engine_busy_share": busy,
        "grading": roles.verifier.stats(),
    }


def busy_share(
    before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]
) -> float:
    """Share of the time between two readings in which an engine was stepping, mean over workers.

    A worker that was replaced in between counts from its own start.
    """
    shares = []
    for old, new in zip(before, after, strict=False):
        since = old if new["up_s"] >= old["up_s"] else {"busy_s": 0.0, "up_s": 0.0}
        shares.append((new["busy_s"] - since["busy_s"]) / max(new["up_s"] - since["up_s"], 1e-9))
    return round(sum(shares) / max(1, len(shares)), 4)


def _detail(values: Mapping[str, float]) -> str:
    err = f"|L-b|/b {values['rl/rel_err']:.3f}  " if "rl/rel_err" in values else ""
    return (
        f"reward {values['rl/reward']:.2f}  accuracy {values['rl/accuracy']:.2f}  {err}"
        f"lag {values['rl/lag_mean']:.1f}  {values['rl/tokens_per_s'] / 1000:.1f}k tok/s"
    )


def _state_path(context: Context) -> Path:
    return context.run.checkpoint(RL_STATE)


async def _begin(context: Context) -> RLState:
    """Learner and loop as of the newest checkpoint, or at the start."""
    path, optim = _state_path(context), rl_optim(context.config.rl)
    recover(path)
    if not is_complete(path):
        await context.roles.learner.begin(context.weights_before("rl"), optim)
        context.metrics.truncate_after("rl", 0)
        return RLState()
    await context.roles.learner.restore(str((path / "learner").resolve()), optim)
    saved = json.loads((path / "loop.json").read_text())
    context.metrics.truncate_after("rl", saved["step"])
    return RLState.from_json(saved)


async def _save(context: Context, state: RLState) -> None:
    """Write learner and loop aside, then put them in the place of the checkpoint before."""
    with described_directory(_state_path(context), step=state.step) as aside:
        (aside / "learner").mkdir()
        await context.roles.learner.save(str((aside / "learner").resolve()))
        write_json(aside / "loop.json", state.to_json())
