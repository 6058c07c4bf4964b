"""Fake roles in one process: a softmax policy over thinking lengths that learns from its rewards.

Tests set the latencies and failures of each role.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from bard_ray.budget.span import ThinkTags
from bard_ray.config.schema import RewardConfig
from bard_ray.learn.spec import LossSpec, OptimSpec
from bard_ray.records import (
    Budget,
    Failure,
    FailureKind,
    GradeItem,
    Group,
    GroupRequest,
    Message,
    Outcome,
    Question,
    SamplingSpec,
    StepStats,
    TokenBudget,
    TrainSequence,
    Verdict,
)
from bard_ray.rewards.reward import make_reward
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.admission import LagWindow
from bard_ray.rl.assemble import Completion, assemble, prompt_segment
from bard_ray.rl.bins import BudgetBins
from bard_ray.rl.flow import FlowSpec, RLRoles
from bard_ray.rl.loop import RLSpec, train_rl
from bard_ray.rl.state import RLState
from bard_ray.roles import Published

CLOSE, THINK, ANSWER = 1, 2, 3
LENGTHS = 8  # the policy thinks 1..LENGTHS tokens


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


@dataclass
class FakeSampler:
    """Samples thinking lengths from published logits; the first token has the whole log-prob."""

    latency: Callable[[GroupRequest], float] = lambda request: 0.0
    fail: Callable[[GroupRequest], str] = lambda request: ""
    transfer_s: float = 0.0
    logits: np.ndarray = field(default_factory=lambda: np.zeros(LENGTHS))
    version: int = -1
    # (admission number, version it was sampled under)
    seen: list[tuple[int, int]] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    budgets: dict[int, tuple[Budget, ...]] = field(default_factory=dict)

    async def sample(
        self, requests: Sequence[GroupRequest], spec: SamplingSpec
    ) -> AsyncIterator[Group]:
        tasks = [asyncio.create_task(self._one(request)) for request in requests]
        for done in asyncio.as_completed(tasks):
            yield await done

    async def _one(self, request: GroupRequest) -> Group:
        self.seen.append((request.number, self.version))
        self.budgets[request.number] = request.budgets
        version, logprobs = self.version, log_softmax(self.logits)
        await asyncio.sleep(self.latency(request))
        reason = self.fail(request)
        if reason:
            return Group(request, failure=Failure(FailureKind.WORKER_LOST, reason))
        generator = np.random.default_rng(request.seed)
        return Group(
            request,
            tuple(
                self._rollout(request, i, logprobs, version, generator)
                for i in range(len(request.budgets))
            ),
        )

    def _rollout(self, request, index, logprobs, version, generator):
        choice = int(generator.choice(LENGTHS, p=np.exp(logprobs) / np.exp(logprobs).sum()))
        tokens = np.array([THINK] * (choice + 1) + [CLOSE, ANSWER], np.int32)
        behavior = np.zeros(tokens.size, np.float32)
        behavior[0] = logprobs[choice]
        versions = np.full(tokens.size, version, np.int32)
        completion = Completion(tokens, behavior, versions, "stop")
        prompt = prompt_segment(np.array([9, request.number], np.int32))
        return assemble(
            prompt,
            completion,
            request.budgets[index],
            ThinkTags(CLOSE),
            None,
            lambda ids: "right",
        )

    async def abort(self, numbers: Collection[int]) -> None:
        self.aborted += numbers

    async def publish(self, weights: Published, version: int) -> float:
        assert version > self.version, "versions only go up"
        if self.version >= 0:
            await asyncio.sleep(self.transfer_s)
        self.logits, self.version = np.array(weights.handle), version
        return 0.0

    async def load(self, path: str, version: int) -> None:
        self.version = version


@dataclass
class FakeVerifier:
    outcome: Callable[[GradeItem], Outcome] = lambda item: Outcome.CORRECT
    graded: int = 0

    async def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        self.graded += len(items)
        return [Verdict(self.outcome(item)) for item in items]


class StageMethods:
    """The rest of the learner role, which the loop never calls."""

    async def begin(self, init_path: str, optim: OptimSpec) -> None:
        raise AssertionError

    async def export(self, path: str) -> None:
        raise AssertionError

    async def save(self, path: str) -> None:
        raise AssertionError

    async def restore(self, path: str, optim: OptimSpec) -> None:
        raise AssertionError


@dataclass
class FakeLearner(StageMethods):
    """Plain policy gradient on the logits; reads the thinking length off the tokens."""

    latency: float = 0.0
    logits: np.ndarray = field(default_factory=lambda: np.zeros(LENGTHS))
    batches: list[list[TrainSequence]] = field(default_factory=list)

    async def step(
        self, sequences: Sequence[TrainSequence], loss: LossSpec, lr: float
    ) -> StepStats:
        await asyncio.sleep(self.latency)
        self.batches.append(list(sequences))
        probabilities, gradient = np.exp(log_softmax(self.logits)), np.zeros(LENGTHS)
        for sequence in sequences:
            assert sequence.advantages_T is not None
            length = int((sequence.tokens_T[2:] == THINK).sum())
            gradient += float(sequence.advantages_T[2]) * (
                np.eye(LENGTHS)[length - 1] - probabilities
            )
        self.logits = self.logits + lr * gradient / len(sequences)
        return StepStats({"rl/loss": 0.0})

    @property
    def numbers(self) -> list[int]:
        """Admission numbers of the groups trained on, in order."""
        return list(dict.fromkeys(int(s.tokens_T[1]) for batch in self.batches for s in batch))

    async def publish(self) -> Published:
        return Published(handle=self.logits.copy(), names=("logits",), num_bytes=self.logits.nbytes)


@dataclass
class LoopRun:
    """One run of the RL loop over fakes: `await run.go()`, then inspect its fields."""

    max_lag: int = 0
    oversample: float = 0.0
    steps: int = 5
    prompts: int = 2
    group_size: int = 4
    lr: float = 1.0
    budget: int = 5
    sampler: FakeSampler = field(default_factory=FakeSampler)
    verifier: FakeVerifier = field(default_factory=FakeVerifier)
    learner: FakeLearner = field(default_factory=FakeLearner)
    state: RLState = field(default_factory=RLState)
    reward: RewardConfig = field(default_factory=RewardConfig)
    records: list[dict[str, float]] = field(default_factory=list)

    def request(self, number: int, stats: BatchStats) -> GroupRequest:
        question = Question(f"q{number}", (Message("user", "?"),), "right", "string")
        return GroupRequest(
            number, question, (TokenBudget(self.budget),) * self.group_size, seed=number
        )

    async def on_step(self, state: RLState, values: dict[str, float]) -> None:
        self.records.append(values)

    async def go(self) -> Self:
        flow = FlowSpec(
            request=self.request,
            sampling=SamplingSpec(),
            lag=LagWindow(self.max_lag, self.prompts),
            total_groups=self.steps * self.prompts,
            max_untrainable=50,
            oversample=self.oversample,
        )
        spec = RLSpec(
            self.steps,
            std_normalize=True,
            loss=LossSpec("grpo"),
            flow=flow,
            bins=BudgetBins.of([self.budget]),
            lr=lambda step: self.lr,
        )
        await self.sampler.publish(await self.learner.publish(), self.state.versions.newest)
        reward = make_reward(self.reward)
        await train_rl(
            RLRoles(self.sampler, self.verifier, self.learner, None),
            reward,
            spec,
            self.state,
            self.on_step,
        )
        return self
