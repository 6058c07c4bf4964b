"""The budget sweep: every question at every budget is sampled, graded and summarized.

All requests are submitted at once; the sampler limits its own concurrency. Finished groups are
graded in batches, a bounded number of them at a time, while the others are sampled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bard_ray.config.schema import EvalConfig
from bard_ray.evals.metrics import VariantSummary, summarize
from bard_ray.records import (
    NO_BUDGET,
    Budget,
    GradeItem,
    Group,
    GroupRequest,
    Outcome,
    Question,
    SamplingSpec,
    TokenBudget,
    Verdict,
    token_limit,
)
from bard_ray.regrade import UNGRADED, grade_with_retries
from bard_ray.roles import Sampler, Verifier

GROUPS_PER_GRADING = 32
BATCHES_IN_GRADING = 8

OnProgress = Callable[[int, int], None]  # groups graded, groups in total


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The requests of one variant.

    Attributes:
        budgets: budgets at which every question is sampled; `NO_BUDGET` is unconstrained.
        spec: sampling settings.
        samples: rollouts per question and budget.
        seed: seed of the sweep; a request's seed is derived from it and the request's number.
        first_number: number of the first request, so that several sweeps can share one numbering.
    """

    budgets: tuple[Budget, ...]
    spec: SamplingSpec
    samples: int = 1
    seed: int = 0
    first_number: int = 0


def plan_sweep(config: EvalConfig, seed: int, first_number: int = 0) -> SweepPlan:
    """The sweep of a configuration."""
    budgets: tuple[Budget, ...] = tuple(TokenBudget(tokens) for tokens in sorted(config.budgets))
    spec = SamplingSpec(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    return SweepPlan(
        (*budgets, NO_BUDGET) if config.no_budget else budgets,
        spec,
        config.samples,
        seed,
        first_number,
    )


def forcing(plan: SweepPlan) -> SweepPlan:
    """The same sweep with budget forcing: the engine closes the thinking at the budget.

    The prompt does not contain the budget.
    """
    budgets = tuple(budget for budget in plan.budgets if token_limit(budget) is not None)
    return replace(
        plan, budgets=budgets, spec=replace(plan.spec, force_budget=True, show_budget=False)
    )


def make_requests(questions: Sequence[Question], plan: SweepPlan) -> list[GroupRequest]:
    """One request for each question and budget.

    The budgets of a question are adjacent, since their prompts share a prefix.
    """
    pairs = [(question, budget) for question in questions for budget in plan.budgets]
    return [
        GroupRequest(number, question, (budget,) * plan.samples, _request_seed(plan.seed, number))
        for number, (question, budget) in enumerate(pairs, start=plan.first_number)
    ]


async def sweep(
    sampler: Sampler,
    verifier: Verifier,
    questions: Sequence[Question],
    plan: SweepPlan,
    on_progress: OnProgress,
) -> list[Group]:
    """Sample and grade the whole sweep; groups in request order, see `sample_graded`."""
    requests = make_requests(questions, plan)
    return await sample_graded(sampler, verifier, requests, plan.spec, on_progress)


async def sample_graded(
    sampler: Sampler,
    verifier: Verifier,
    requests: Sequence[GroupRequest],
    spec: SamplingSpec,
    on_progress: OnProgress,
) -> list[Group]:
    """Sample requests and grade their answers; returns the groups in order of their numbers.

    The loop takes groups from the sampler as they complete and passes them to the verifier in
    batches. It waits for the sampler, and for the oldest batch once `BATCHES_IN_GRADING` batches
    are being graded. A failed group is returned ungraded, with its reason; so is a group with an
    answer that could not be graded.
    """
    graded: list[Group] = []
    grading: deque[asyncio.Task[list[Group]]] = deque()

    async def collect(max_in_grading: int) -> None:
        while len(grading) > max_in_grading:
            graded.extend(await grading.popleft())
            on_progress(len(graded), len(requests))

    try:
        async for batch in _batches(sampler.sample(requests, spec), GROUPS_PER_GRADING):
            grading.append(asyncio.create_task(grade_groups(verifier, batch)))
            await collect(BATCHES_IN_GRADING - 1)
        await collect(0)
    finally:
        for task in grading:
            task.cancel()
    return sorted(graded, key=lambda group: group.number)


async def grade_groups(verifier: Verifier, groups: Sequence[Group]) -> list[Group]:
    """The groups with one verdict for each rollout, graded in one call.

    A group with an answer that could not be graded becomes a failed one.
    """
    items = [
        GradeItem(rollout.answer_text, group.request.question.answer, group.request.question.kind)
        for group in groups
        for rollout in group.rollouts
    ]
    graded, _ = await grade_with_retries(verifier, items)
    verdicts = iter(graded)
    return [_graded(group, tuple(next(verdicts) for _ in group.rollouts)) for group in groups]


def _graded(group: Group, verdicts: tuple[Verdict, ...]) -> Group:
    if any(verdict.outcome is Outcome.BROKEN for verdict in verdicts):
        return replace(group, rollouts=(), failure=UNGRADED)
    return replace(group, verdicts=verdicts)


async def evaluate_variant(
    sampler: Sampler,
    verifier: Verifier,
    questions: Sequence[Question],
    plan: SweepPlan,
    on_progress: OnProgress,
) -> VariantSummary:
    """Run the sweep and summarize it: one entry of `variants` in `results.json`."""
    return summarize(await sweep(sampler, verifier, questions, plan, on_progress))


async def _batches(groups: AsyncIterator[Group], size: int) -> AsyncIterator[list[Group]]:
    """Group the stream into lists of `size`; the last one may be shorter."""
    batch: list[Group] = []
    async for group in groups:
        batch.append(group)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _request_seed(seed: int, number: int) -> int:
    """31-bit seed of one request; neighboring seeds and numbers give independent streams."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)
