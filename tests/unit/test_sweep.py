"""The budget sweep against fakes of the sampler and the verifier."""

import asyncio

import pytest

from bard_ray.config.schema import EvalConfig
from bard_ray.evals import sweep as module
from bard_ray.evals.sweep import (
    SweepPlan,
    evaluate_variant,
    forcing,
    make_requests,
    plan_sweep,
    sweep,
)
from bard_ray.records import (
    NO_BUDGET,
    Failure,
    FailureKind,
    Group,
    Message,
    Outcome,
    Question,
    Rollout,
    SamplingSpec,
    TokenBudget,
    Verdict,
    token_limit,
)
from bard_ray.regrade import UNGRADED

QUESTIONS = [Question(f"q{i}", (Message("user", str(i)),), str(i), "integer") for i in range(20)]
PLAN = SweepPlan(
    (TokenBudget(4), TokenBudget(8), NO_BUDGET), SamplingSpec(), samples=2, seed=5, first_number=100
)


DIED = Failure(FailureKind.WORKER_LOST, "worker died")


class ObedientSampler:
    """Thinks for exactly the budget (20 without one) and answers correctly, in reverse order.

    Requests whose numbers are in `fails` fail.
    """

    def __init__(self, fails=()):
        self.fails = fails
        self.specs = []

    async def sample(self, requests, spec):
        self.specs.append(spec)
        for request in reversed(requests):
            await asyncio.sleep(0)
            if request.number in self.fails:
                yield Group(request, failure=DIED)
                continue
            rollouts = (
                Rollout(
                    b,
                    (),
                    "stop",
                    token_limit(b) or 20,
                    closed=True,
                    answer_text=request.question.answer,
                )
                for b in request.budgets
            )
            yield Group(request, tuple(rollouts))

    async def publish(self, weights, version):
        raise NotImplementedError

    async def abort(self, numbers):
        raise AssertionError("a sweep never aborts")

    async def load(self, path, version):
        raise NotImplementedError


class ExactVerifier:
    """Compares strings; records the sizes of its calls and how many ran concurrently."""

    def __init__(self, error=None):
        self.sizes, self.running, self.most_running, self.error = [], 0, 0, error

    async def grade(self, items):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        if self.error:
            raise self.error
        self.sizes.append(len(items))
        return [
            Verdict(Outcome.CORRECT if i.text == i.gold else Outcome.WRONG, i.text) for i in items
        ]


def ignore(done, total):
    pass


async def test_every_question_is_sampled_at_every_budget_and_graded():
    groups = await sweep(ObedientSampler(), ExactVerifier(), QUESTIONS, PLAN, ignore)
    sampled = {(g.request.question.id, g.request.budgets) for g in groups}
    assert sampled == {(q.id, (b, b)) for q in QUESTIONS for b in PLAN.budgets}
    assert [g.number for g in groups] == list(range(100, 160))
    assert all([v.extracted for v in g.verdicts] == [g.request.question.answer] * 2 for g in groups)


async def test_grading_is_batched_with_bounded_concurrency(monkeypatch):
    monkeypatch.setattr(module, "GROUPS_PER_GRADING", 7)
    monkeypatch.setattr(module, "BATCHES_IN_GRADING", 3)
    verifier = ExactVerifier()
    await sweep(ObedientSampler(), verifier, QUESTIONS, PLAN, ignore)
    assert sorted(verifier.sizes) == [8] + [14] * 8
    assert verifier.most_running == 3


class BrokenAtFirst(ExactVerifier):
    """Verdicts on question `q3` are broken in the first `times` attempts at each answer."""

    def __init__(self, times):
        super().__init__()
        self.times = times
        self.attempts = {}

    async def grade(self, items):
        verdicts = await super().grade(items)
        for i, item in enumerate(items):
            self.attempts[item.gold] = self.attempts.get(item.gold, 0) + 1
            if item.gold == "3" and len(items) > 0 and self.attempts["3"] <= self.times * 6:
                verdicts[i] = Verdict(Outcome.BROKEN, rule="process_died")
        return verdicts


async def test_broken_verdicts_are_graded_again():
    groups = await sweep(ObedientSampler(), BrokenAtFirst(2), QUESTIONS, PLAN, ignore)
    assert all(v.outcome is Outcome.CORRECT for g in groups for v in g.verdicts)
    assert not any(g.failure for g in groups)


async def test_a_group_that_cannot_be_graded_fails_and_is_not_wrong():
    groups = await sweep(ObedientSampler(), BrokenAtFirst(9), QUESTIONS, PLAN, ignore)
    failed = [g for g in groups if g.failure]
    assert {g.request.question.id for g in failed} == {"q3"}
    assert all(g.failure == UNGRADED and not g.rollouts for g in failed)


async def test_progress_reaches_the_total(monkeypatch):
    monkeypatch.setattr(module, "GROUPS_PER_GRADING", 25)
    seen = []
    await sweep(
        ObedientSampler(),
        ExactVerifier(),
        QUESTIONS,
        PLAN,
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(25, 60), (50, 60), (60, 60)]


async def test_a_failed_group_is_returned_with_its_reason_and_the_rest_is_graded():
    groups = await sweep(ObedientSampler(fails={103}), ExactVerifier(), QUESTIONS, PLAN, ignore)
    assert {g.number: g.failure for g in groups if g.failure} == {103: DIED}
    assert len(groups) == 60


async def test_an_error_of_the_verifier_ends_the_sweep():
    with pytest.raises(ConnectionError, match="pool is gone"):
        await sweep(
            ObedientSampler(),
            ExactVerifier(ConnectionError("pool is gone")),
            QUESTIONS,
            PLAN,
            ignore,
        )


async def test_without_questions_the_sweep_is_empty():
    assert await sweep(ObedientSampler(), ExactVerifier(), [], PLAN, ignore) == []


async def test_evaluate_variant_of_an_obedient_student_is_perfect():
    summary = await evaluate_variant(ObedientSampler(), ExactVerifier(), QUESTIONS, PLAN, ignore)
    assert [summary["rel_err"], summary["in_band"], summary["overrun"], summary["accuracy"]] == [
        0,
        1,
        0,
        1,
    ]
    assert summary["by_budget"]["none"]["mean_length"] == 20


async def test_the_forcing_sweep_hides_the_budget_and_enforces_it():
    sampler = ObedientSampler()
    summary = await evaluate_variant(sampler, ExactVerifier(), QUESTIONS, forcing(PLAN), ignore)
    assert (sampler.specs[0].force_budget, sampler.specs[0].show_budget) == (True, False)
    assert set(summary["by_budget"]) == {"4", "8"}


def test_requests_are_reproducible_and_their_seeds_unique():
    first, again = make_requests(QUESTIONS, PLAN), make_requests(QUESTIONS, PLAN)
    assert first == again
    assert len({request.seed for request in first}) == len(first)
    assert all(0 <= request.seed < 2**31 for request in first)


def test_another_seed_changes_every_request():
    other = SweepPlan(PLAN.budgets, PLAN.spec, PLAN.samples, seed=6, first_number=100)
    pairs = zip(make_requests(QUESTIONS, PLAN), make_requests(QUESTIONS, other), strict=True)
    assert all(a.seed != b.seed for a, b in pairs)


def test_the_plan_of_a_configuration():
    config = EvalConfig(
        budgets=[8, 4], samples=3, temperature=0.6, max_new_tokens=50, no_budget=True
    )
    plan = plan_sweep(config, seed=7, first_number=9)
    assert plan.budgets == (TokenBudget(4), TokenBudget(8), NO_BUDGET)
    assert plan.spec == SamplingSpec(temperature=0.6, max_new_tokens=50)
    assert (plan.samples, plan.seed, plan.first_number) == (3, 7, 9)
    assert NO_BUDGET not in plan_sweep(EvalConfig(budgets=[4], no_budget=False), seed=0).budgets
