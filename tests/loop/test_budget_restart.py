"""Budgets that depend on the step and on running accuracies: a resumed run draws the same ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from bard_ray.budget.sampler import BudgetSource
from bard_ray.config.schema import BudgetConfig, BudgetSamplerConfig, BudgetScheduleConfig, RLConfig
from bard_ray.records import GroupRequest, Message, Outcome, Question, TokenBudget, token_limit
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.state import RLState
from bard_ray.rl.versions import WeightVersions
from tests.loop.fakes import FakeLearner, FakeSampler, FakeVerifier, LoopRun

STEPS, STOP = 12, 5


@dataclass
class Budgeted(LoopRun):
    """Answers are never right under budget 2, in every other group under 4, always under 6."""

    prompts: int = 4
    lr: float = 0.05  # so low that lengths within groups keep varying
    sampler_name: str = "adaptive"
    schedule: BudgetScheduleConfig = field(default_factory=BudgetScheduleConfig)
    verifier: FakeVerifier = field(
        default_factory=lambda: FakeVerifier(
            lambda item: Outcome.CORRECT if item.gold == "right" else Outcome.WRONG
        )
    )
    saved: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cfg = BudgetConfig(
            train=[2, 4, 6],
            none_share=0.1,
            sampler=BudgetSamplerConfig(self.sampler_name),
            schedule=self.schedule,
        )
        rl = RLConfig(steps=STEPS, prompts_per_step=self.prompts, group_size=self.group_size)
        self.source = BudgetSource.of(cfg, rl, seed=0)

    def request(self, number: int, stats: BatchStats) -> GroupRequest:
        question = Question(f"q{number}", (Message("user", "?"),), "", "string")
        budgets = self.source.draw(number, question, stats.accuracy_by_tokens())
        limit = token_limit(budgets[0]) or 6
        right = limit == 6 or (limit == 4 and number % 2 == 0)
        gold = Question(question.id, question.messages, "right" if right else "wrong", "string")
        return GroupRequest(number, gold, budgets, seed=number)

    async def on_step(self, state: RLState, values: dict[str, float]) -> None:
        await super().on_step(state, values)
        self.saved[state.step] = json.dumps(state.to_json())


def uneven(request: GroupRequest) -> float:
    return 0.002 * (request.number * 7 % 5)


def resumed(run: Budgeted, weights, **settings) -> Budgeted:
    state = RLState.from_json(json.loads(run.saved[STOP]), WeightVersions())
    return Budgeted(state=state, learner=FakeLearner(logits=weights), **settings)


@pytest.mark.parametrize(
    "schedule",
    [
        BudgetScheduleConfig(),
        BudgetScheduleConfig("linear", {"start": 6, "end": 4, "steps": 8}),
        BudgetScheduleConfig("exponential", {"start": 6, "gamma": 0.9, "every": 4}),
    ],
    ids=lambda schedule: schedule.name,
)
async def test_a_resumed_run_draws_the_same_budgets(schedule):
    settings = {"schedule": schedule, "sampler": FakeSampler(latency=uneven)}
    whole = await Budgeted(steps=STEPS, **settings).go()
    settings["sampler"] = FakeSampler()  # other latencies, same requests
    first = await Budgeted(steps=STOP, **settings).go()
    settings["sampler"] = FakeSampler()
    rest = await resumed(first, first.learner.logits, steps=STEPS, **settings).go()
    assert first.sampler.budgets | rest.sampler.budgets == whole.sampler.budgets
    assert min(rest.sampler.budgets) == first.state.ledger.consumed
    assert rest.saved[STEPS] == whole.saved[STEPS]
    assert rest.learner.logits.tolist() == whole.learner.logits.tolist()


@pytest.mark.parametrize("max_lag", [1, 3])
async def test_with_lag_the_groups_in_flight_keep_their_budgets(max_lag):
    """They were drawn under the statistics of several steps; a resumed run has the latest only."""
    run = await Budgeted(max_lag=max_lag, steps=STEPS, sampler=FakeSampler(latency=uneven)).go()
    in_flight = json.loads(run.saved[STOP])["asked"]
    assert len(in_flight) >= 4 * max_lag
    rest = await resumed(
        run, run.learner.logits, max_lag=max_lag, steps=STEPS, sampler=FakeSampler()
    ).go()
    for number in map(int, in_flight):
        assert rest.sampler.budgets[number] == run.sampler.budgets[number]


async def test_the_adaptive_sampler_draws_budgets_without_signal_less_often():
    def share_of_budget_2(run: Budgeted) -> float:
        late = [b for n, (b, *_) in run.sampler.budgets.items() if n >= 40]
        return late.count(TokenBudget(2)) / len(late)

    adaptive = await Budgeted(steps=40).go()
    uniform = await Budgeted(steps=40, sampler_name="uniform").go()
    assert share_of_budget_2(uniform) > 0.25
    assert share_of_budget_2(adaptive) < 0.5 * share_of_budget_2(uniform)


async def test_groups_with_several_budgets_are_trained_on():
    run = await Budgeted(steps=4, group_size=6, sampler_name="per_rollout").go()
    mixed = [budgets for budgets in run.sampler.budgets.values() if len(set(budgets)) > 1]
    assert len(mixed) > 10
    assert [len(batch) for batch in run.learner.batches] == [24] * 4
    assert all(0 <= record["rl/in_band"] <= 1 for record in run.records)
