"""The RL stage: builds the loop from the configuration, runs it, and writes checkpoints."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
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
from bard_ray.rundir import RL_STATE, RunDirectory

if TYPE_CHECKING:
    from actors.stages.context import Context
    from bard_ray.progress import Progress

# Consecutive groups without a trainable one, in multiples of a step's prompts, after which the run
# counts as stuck.
STUCK_AFTER_STEPS = 20
SEED_STRIDE = 7919  # admission number n samples with run seed + stride * n


def request_maker(config: Config) -> Callable[[int, BatchStats], GroupRequest]:
    """Map an admission number to its group request.

    Question, budgets and seed are functions of the number alone, except for budget samplers that
    use the accuracy so far.
    """
    question = training_questions(config.data, config.run.seed)
    budgets, seed = BudgetSource.of(config.budget, config.rl, config.run.seed), config.run.seed

    def make(number: int, stats: BatchStats) -> GroupRequest:
        asked = question(number)
        drawn = budgets.draw(number, asked, stats.accuracy_by_tokens())
        return GroupRequest(number, asked, drawn, seed + SEED_STRIDE * number)

    return make


def validate_draws(config: Config) -> int:
    """Draw budgets once for every training question of a data set; returns the question count.

    A question may lack the field that the sampler reads. Samplers that read no field are skipped,
    and so is the synthetic task: its questions all have the same fields, and
    `bard_ray.preflight.check` has already drawn for one of them.

    Raises:
        ConfigError, DataError: the sampler rejects a question.
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
    """The loop's constants.

    The learning rate follows its schedule over `rl.steps` steps. If `rl.steps` changed between two
    commands, the remaining steps follow the new schedule.
    """
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
    """Train from the SFT student, or from the latest checkpoint of this stage, and export.

    A checkpoint at or beyond `rl.steps` is the final result, so lowering `rl.steps` finishes a run
    early. See `bard_ray.rundir` for the settings that may change between two commands.
    `earlier_wall_s` of the result are the seconds that earlier commands took up to the checkpoint;
    the other figures of the roles are those of this command.
    """
    roles, asked = context.roles, context.config.rl.steps
    earlier_s, started = _wall_s_of_checkpoint(context.run), time.monotonic()
    await asyncio.gather(roles.learner_ready, roles.sampling_ready)
    state = await _begin(context)
    progress.update(state.step, asked)
    if state.step < asked:
        trained = await _train(context, state, progress, started - earlier_s)
    else:
        progress.update(asked, asked, f"ends with the checkpoint of step {state.step}")
        trained = {}
    await roles.learner.export(str(context.run.checkpoint("rl").resolve()))
    if checkpoint_step(context.run) != state.step:  # left by an earlier command
        shutil.rmtree(_state_path(context.run), ignore_errors=True)
    steps = {"steps": state.step, "steps_asked": asked, "earlier_wall_s": earlier_s}
    return trained | asdict(state.ledger) | steps


async def _train(
    context: Context, state: RLState, progress: Progress, began: float
) -> dict[str, Any]:
    """Run the loop from `state` to `rl.steps`; returns the recorded facts of the roles.

    `began` is the monotonic time at which the stage would have begun without interruptions.
    """
    config, roles = context.config, context.roles
    reference = roles.reference if config.rl.kl_coef > 0 else None
    if reference is not None:
        await reference.load(context.weights_before("rl"))
    await roles.sampler.publish(await roles.learner.publish(), state.versions.newest)

    async def on_step(now: RLState, values: Mapping[str, float]) -> None:
        context.metrics.write("rl", now.step, {**values, **roles.verifier.metrics()})
        progress.update(now.step, config.rl.steps, _detail(values))
        if _is_checkpoint(now.step, config.rl):
            await _save(context, now, time.monotonic() - began)

    before = await roles.sampler.stats()
    loop_roles = RLRoles(roles.sampler, roles.verifier, roles.learner, reference)
    await train_rl(loop_roles, make_reward(config.rl.reward), rl_spec(config), state, on_step)
    return {
        "workers_replaced": roles.sampler.replaced,
        "engine_busy_share": busy_share(before, await roles.sampler.stats()),
        "grading": roles.verifier.stats(),
    }


def busy_share(
    before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]
) -> float:
    """Share of the time between two readings in which engines were stepping, mean over workers.

    A worker that was replaced in between is counted from its own start.
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


def checkpoint_step(run: RunDirectory) -> int | None:
    """Optimizer step of the stage's latest checkpoint; None without a checkpoint."""
    path = _state_path(run)
    recover(path)
    return int(_loop_state(path)["step"]) if is_complete(path) else None


def _wall_s_of_checkpoint(run: RunDirectory) -> float:
    """Seconds of the stage in the newest checkpoint, over all commands; 0 where there is none."""
    if checkpoint_step(run) is None:
        return 0.0
    return float(_loop_state(_state_path(run)).get("wall_s", 0.0))


def _is_checkpoint(step: int, rl: RLConfig) -> bool:
    """Whether to write a checkpoint: every `rl.checkpoint_every` steps, and after the last step."""
    return rl.checkpoint_every > 0 and (step % rl.checkpoint_every == 0 or step == rl.steps)


def _state_path(run: RunDirectory) -> Path:
    return run.checkpoint(RL_STATE)


def _loop_state(path: Path) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads((path / "loop.json").read_text())
    return saved


async def _begin(context: Context) -> RLState:
    """Restore learner and loop from the latest checkpoint, or start from the SFT student."""
    path, optim = _state_path(context.run), rl_optim(context.config.rl)
    step = checkpoint_step(context.run)
    context.metrics.truncate_after("rl", step or 0)
    if step is None:
        await context.roles.learner.begin(context.weights_before("rl"), optim)
        context.versions.next()
        return RLState(versions=context.versions)
    await context.roles.learner.restore(str((path / "learner").resolve()), optim)
    return RLState.from_json(_loop_state(path), context.versions)


async def _save(context: Context, state: RLState, wall_s: float) -> None:
    """Write learner and loop state to a temporary directory, then replace the checkpoint."""
    with described_directory(_state_path(context.run), step=state.step) as aside:
        (aside / "learner").mkdir()
        await context.roles.learner.save(str((aside / "learner").resolve()))
        write_json(aside / "loop.json", {**state.to_json(), "wall_s": round(wall_s, 3)})
