"""The student's pass rate on every question."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bard_ray.distill.filter import Candidate
from bard_ray.distill.step import STEPS, StepTools
from bard_ray.errors import ConfigError, InfrastructureError
from bard_ray.records import (
    NO_BUDGET,
    Failure,
    FailureKind,
    Group,
    Message,
    Outcome,
    Question,
    Rollout,
    TokenBudget,
    Verdict,
)

NO_TOKENS = np.zeros(0, np.int32)


def question(item_id):
    return Question(item_id, (Message("user", "1+1?"),), "2", "integer")


def records(*ids):
    return [Candidate(question(i), f"chain {n}", "2", NO_TOKENS) for n, i in enumerate(ids)]


class ScriptedStudent:
    """Right in as many of its samples as the seed says; completes the last request first."""

    def __init__(self, fails=None):
        self.fails, self.requests, self.specs = fails or {}, [], []

    async def sample(self, requests, spec):
        self.specs.append(spec)
        for request in reversed(requests):
            self.requests.append(request)
            failure = self.fails.get(request.question.id)
            generator = np.random.default_rng(request.seed)
            rollouts = () if failure else tuple(self._rollouts(request, generator))
            yield Group(request, rollouts, failure=failure)

    def _rollouts(self, request, generator):
        for budget in request.budgets:
            answer = "2" if generator.random() < 0.5 else "3"
            yield Rollout(budget, (), "stop", 1, closed=True, answer_text=answer)


class Exact:
    async def grade(self, items):
        outcomes = [Outcome.CORRECT if i.text == i.gold else Outcome.WRONG for i in items]
        return [Verdict(outcome) for outcome in outcomes]


def tools(student, seed=0):
    async def sampler():
        return student

    async def verifier():
        return Exact()

    nothing: dict[str, Any] = dict.fromkeys(
        ("teacher_name", "prompts", "train_budgets", "context", "teacher", "reference")
    )
    return StepTools(seed=seed, verifier=verifier, student=sampler, **nothing)


def step(**params):
    return STEPS.build("sample_student", params)


async def test_every_chain_carries_the_rate_of_its_question_which_is_sampled_once():
    student = ScriptedStudent()
    results = await step(samples=40).run(records("a", "a", "b", "a2"), tools(student))
    assert sorted(r.question.id for r in student.requests) == ["a", "a2", "b"]
    assert [r.think for r, _ in results] == ["chain 0", "chain 1", "chain 2", "chain 3"]
    rates = [r.pass_rate for r, _ in results]
    assert rates[0] == rates[1]
    assert len({rates[0], rates[2], rates[3]}) == 3, "each question has a stream of its own"
    by_hand = np.random.default_rng(next(r.seed for r in student.requests if r.question.id == "b"))
    assert rates[2] == pytest.approx(np.mean(by_hand.random(40) < 0.5))
    assert all(reason == "" for _, reason in results)


async def test_rates_depend_on_seed_and_question_only():
    ids = [f"q{n}" for n in range(12)]
    at_once = await step().run(records(*ids), tools(ScriptedStudent()))
    in_parts = []
    for part in (ids[7:], ids[:2], ids[2:7]):
        in_parts += await step().run(records(*part), tools(ScriptedStudent()))
    rates = {r.question.id: r.pass_rate for r, _ in at_once}
    assert {r.question.id: r.pass_rate for r, _ in in_parts} == rates
    other = await step().run(records(*ids), tools(ScriptedStudent(), seed=1))
    assert {r.question.id: r.pass_rate for r, _ in other} != rates


async def test_the_requests_have_the_steps_parameters():
    student = ScriptedStudent()
    await step(samples=3, max_new_tokens=50, temperature=0.0).run(records("a"), tools(student))
    await step(samples=2, budget=20).run(records("a"), tools(student))
    assert [r.budgets for r in student.requests] == [(NO_BUDGET,) * 3, (TokenBudget(20),) * 2]
    assert (student.specs[0].temperature, student.specs[0].max_new_tokens) == (0.0, 50)
    with pytest.raises(ConfigError, match="samples must be at least 1"):
        step(samples=0)


async def test_a_question_that_cannot_be_sampled_is_dropped_with_a_reason():
    student = ScriptedStudent({"b": Failure(FailureKind.NO_ROOM, "its prompt leaves no room")})
    results = await step().run(records("a", "b", "b"), tools(student))
    assert [reason for _, reason in results] == ["", "not_sampled", "not_sampled"]
    assert results[1][0].pass_rate is None
    assert await step().run(records("b"), tools(student)) == [(records("b")[0], "not_sampled")]
    assert await step().run([], tools(student)) == []


async def test_a_lost_engine_drops_no_questions():
    lost = Failure(FailureKind.WORKER_LOST, "lost with its rollout worker 3 times")
    results = await step().run(records("a", "b"), tools(ScriptedStudent({"b": lost})))
    assert [reason for _, reason in results] == ["", "not_sampled"]
    with pytest.raises(InfrastructureError, match="any of 2 questions: lost with"):
        await step().run(records("a", "b"), tools(ScriptedStudent({"a": lost, "b": lost})))
