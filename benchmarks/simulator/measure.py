"""Service times of the real roles, each measured alone and then next to the others."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from actors.stages.context import Context
from actors.stages.rl import request_maker, rl_spec
from bard_ray.records import GradeItem, Group, SamplingSpec
from bard_ray.rewards.reward import make_reward
from bard_ray.rewards.stats import BatchStats
from bard_ray.rl.advantages import has_zero_variance
from bard_ray.rl.sequences import sequence_tokens, train_sequences
from bard_ray.sim.fit import fit_costs
from bard_ray.sim.model import (
    Contention,
    Empirical,
    EngineTimes,
    GroupWork,
    LearnerTimes,
    PathTimes,
    System,
)

CALIBRATION_NUMBER = 1_000_000  # admission numbers that no run reaches
WIDEST = 16  # rollouts of a measured group; smaller groups are cut from it
BATCHES = (1, 2, 4, 8, 16, 32)  # groups of 8 at once
SHORT_TOKENS = 6  # completions cut here tell the cost of a request from that of a token


@dataclass
class Samples:
    """All measurements so far: rows and seconds of each fit."""

    engine_rows: list[list[float]] = field(default_factory=list)  # steps, tokens, requests
    engine_s: list[float] = field(default_factory=list)
    between_rows: list[list[float]] = field(default_factory=list)  # calls, requests
    between_s: list[float] = field(default_factory=list)
    learner_rows: list[list[float]] = field(default_factory=list)  # steps, tokens
    learner_s: list[float] = field(default_factory=list)
    reference_rows: list[list[float]] = field(default_factory=list)  # groups, tokens
    reference_s: list[float] = field(default_factory=list)
    answer_s: list[float] = field(default_factory=list)
    gather_s: list[float] = field(default_factory=list)
    broadcast_s: list[float] = field(default_factory=list)
    load_s: list[float] = field(default_factory=list)
    driver_group_s: list[float] = field(default_factory=list)
    after_step_s: list[float] = field(default_factory=list)
    # role -> number of other busy roles -> how many times longer it took
    slower: dict[tuple[str, int], list[float]] = field(default_factory=dict)


class RoleMeter:
    """Measures the roles of a session."""

    def __init__(self, context: Context) -> None:
        self.context, self.roles = context, context.roles
        self.config, self.samples = context.config, Samples()
        self._numbers = itertools.count(CALIBRATION_NUMBER)
        self._reward = make_reward(self.config.rl.reward)
        self._spec = rl_spec(self.config)
        self.groups: list[Group] = []
        self._order = random.Random(0)

    async def collect(self, count: int) -> None:
        """The workload: graded and rewarded groups of `WIDEST` rollouts, with log-probs."""
        wide = replace(self.config, rl=replace(self.config.rl, group_size=WIDEST))
        groups = await self._sample(count, wide.rl.max_new_tokens, WIDEST)
        for group in groups:
            verdicts = tuple(await self.roles.verifier.grade(_items(group)))
            graded = replace(group, verdicts=verdicts)
            self.groups.append(self._reward.rewarded(graded, BatchStats()).group)
        if self.roles.reference is not None:
            for index, group in enumerate(self.groups):
                found = await self.roles.reference.logprobs(_sequences(group), 1.0)
                self.groups[index] = replace(group, reference_logprobs=tuple(found))

    def workload(self, group_size: int, seed: int) -> Empirical:
        """The measured groups, cut to `group_size` rollouts."""
        works = []
        for group in self.groups:
            rollouts = group.rollouts[:group_size]
            rewards_G = group.rewards_G
            zero_variance = rewards_G is None or has_zero_variance(rewards_G[:group_size])
            prompt = int(rollouts[0].segments[0].tokens_T.size)
            works.append(
                GroupWork(tuple(r.completion_tokens for r in rollouts), prompt, zero_variance)
            )
        return Empirical(works, seed)

    # --- each role alone

    async def alone(self) -> None:
        """One round over all roles, in shuffled order."""
        jobs: list[Callable[[], Awaitable[None]]] = [
            *(lambda k=k, m=m: self._engine(k, m) for k in BATCHES for m in self._cuts()),
            *(lambda k=k: self._learner(k) for k in (16, 32, 64, 128, 192)),
            *(self._reference for _ in range(8)),
            *(self._verifier for _ in range(8)),
            *(self._publish for _ in range(6)),
        ]
        self._order.shuffle(jobs)
        for job in jobs:
            await job()

    def _cuts(self) -> tuple[int, int]:
        return SHORT_TOKENS, self.config.rl.max_new_tokens

    async def _sample(self, count: int, max_new_tokens: int, size: int) -> list[Group]:
        rl = replace(self.config.rl, group_size=size)
        make = request_maker(replace(self.config, rl=rl))
        requests = [make(number, BatchStats()) for number in itertools.islice(self._numbers, count)]
        spec = SamplingSpec(rl.temperature, max_new_tokens)
        return [group async for group in self.roles.sampler.sample(requests, spec)]

    async def _engine(self, count: int, max_new_tokens: int) -> None:
        """Time `count` concurrent groups, from an idle engine to an idle engine."""
        before = (await self.roles.sampler.stats())[0]
        started = time.perf_counter()
        groups = await self._sample(count, max_new_tokens, 8)
        wall_s = time.perf_counter() - started
        after = (await self.roles.sampler.stats())[0]
        steps, tokens, busy_s = (after[k] - before[k] for k in ("steps", "tokens", "busy_s"))
        requests = sum(len(g.rollouts) for g in groups)
        self.samples.engine_rows.append([steps, tokens, requests])
        self.samples.engine_s.append(busy_s)
        self.samples.between_rows.append([1, requests])
        self.samples.between_s.append(wall_s - busy_s)

    async def _learner(self, count: int) -> None:
        tokens, seconds = await self._learner_step(count)
        self.samples.learner_rows.append([1, tokens])
        self.samples.learner_s.append(seconds)

    async def _learner_step(self, count: int) -> tuple[int, float]:
        """One optimizer step over about `count` sequences; tokens and seconds."""
        chosen = self._order.sample(self.groups, count // 8)
        groups = [_cut(group, 8) for group in chosen]
        started = time.perf_counter()
        sequences = train_sequences(groups, self._spec.bins, std_normalize=True)
        await self.roles.learner.step(sequences, self._spec.loss, 1e-12)
        return sum(s.tokens_T.size for s in sequences), time.perf_counter() - started

    async def _reference(self) -> None:
        tokens, seconds = await self._reference_group(self._order.choice((4, 8, 16)))
        self.samples.reference_rows.append([1, tokens])
        self.samples.reference_s.append(seconds)

    async def _reference_group(self, size: int) -> tuple[int, float]:
        sequences = _sequences(_cut(self._order.choice(self.groups), size))
        started = time.perf_counter()
        if self.roles.reference is not None:
            await self.roles.reference.logprobs(sequences, 1.0)
        return sum(s.size for s in sequences), time.perf_counter() - started

    async def _verifier(self) -> None:
        items = _items(self._order.choice(self.groups))
        started = time.perf_counter()
        await self.roles.verifier.grade(items)
        self.samples.answer_s.append((time.perf_counter() - started) / len(items))

    async def _publish(self) -> None:
        started = time.perf_counter()
        published = await self.roles.learner.publish()
        gathered = time.perf_counter()
        stall_s = await self.roles.sampler.publish(published, self.context.versions.next())
        self.samples.gather_s.append(gathered - started)
        self.samples.load_s.append(stall_s)
        self.samples.broadcast_s.append(max(0.0, time.perf_counter() - gathered - stall_s))

    # --- next to the others

    async def together(self) -> None:
        """Slowdown of each role while one or two other roles are continuously busy."""
        async with self._busy("learner"):
            await self._engine_next_to(1)
        async with self._busy("engine"):
            await self._learner_next_to(1)
            await self._reference_next_to(1)
        async with self._busy("learner"), self._busy("reference"):
            await self._engine_next_to(2)
        async with self._busy("engine"), self._busy("reference"):
            await self._learner_next_to(2)
        async with self._busy("engine"), self._busy("learner"):
            await self._reference_next_to(2)

    @asynccontextmanager
    async def _busy(self, role: str) -> AsyncIterator[None]:
        """Keep a role busy; its own measurements are discarded."""
        stop = False

        async def keep_on() -> None:
            while not stop:
                if role == "engine":
                    await self._sample(16, self.config.rl.max_new_tokens, 8)
                elif role == "learner":
                    await self._learner_step(128)
                else:
                    await self._reference_group(8)

        # Two engine calls at a time: the second keeps the batch from draining.
        tasks = [asyncio.create_task(keep_on()) for _ in range(2 if role == "engine" else 1)]
        await asyncio.sleep(0.1)
        try:
            yield
        finally:
            stop = True
            await asyncio.gather(*tasks)

    async def _engine_next_to(self, others: int) -> None:
        """The same batches as alone, so that the two sets differ only in their time."""
        s = self.samples
        kept = len(s.engine_s)
        for count in (8, 16, 16, 32):
            await self._engine(count, self.config.rl.max_new_tokens)
        rows, seconds = s.engine_rows[kept:], s.engine_s[kept:]
        for values in (s.engine_rows, s.engine_s, s.between_rows, s.between_s):
            del values[kept:]
        expected = np.asarray(rows) @ fit_costs(s.engine_rows, s.engine_s)
        self._note("engine", others, sum(seconds) / float(expected.sum()))

    async def _learner_next_to(self, others: int) -> None:
        pairs = [await self._learner_step(128) for _ in range(4)]
        step_s, token_s = fit_costs(self.samples.learner_rows, self.samples.learner_s)
        expected = sum(step_s + token_s * tokens for tokens, _ in pairs)
        self._note("learner", others, sum(seconds for _, seconds in pairs) / expected)

    async def _reference_next_to(self, others: int) -> None:
        pairs = [await self._reference_group(8) for _ in range(8)]
        group_s, token_s = fit_costs(self.samples.reference_rows, self.samples.reference_s)
        expected = sum(group_s + token_s * tokens for tokens, _ in pairs)
        self._note("reference", others, sum(seconds for _, seconds in pairs) / expected)

    def _note(self, role: str, others: int, factor: float) -> None:
        self.samples.slower.setdefault((role, others), []).append(factor)

    # --- the model

    def system(self) -> System:
        """Service times fitted to all measurements so far."""
        s = self.samples
        median = _median
        step_s, sequence_s, request_s = fit_costs(s.engine_rows, s.engine_s)
        call_s, between_s = fit_costs(s.between_rows, s.between_s)
        learner_step_s, learner_token_s = fit_costs(s.learner_rows, s.learner_s)
        reference_group_s, reference_token_s = fit_costs(s.reference_rows, s.reference_s)
        driver_s = median(s.driver_group_s)
        engine = EngineTimes(
            step_s,
            sequence_s,
            request_s=request_s,
            add_s=max(0.0, between_s - driver_s / 8),
            shared_prefix=False,
            max_num_seqs=self.config.rollout.max_num_seqs,
            load_s=median(s.load_s),
        )
        path = PathTimes(
            call_s=call_s / 2,
            driver_group_s=driver_s,
            answer_s=median(s.answer_s),
            reference_group_s=reference_group_s,
            reference_token_s=reference_token_s,
            broadcast_s=median(s.broadcast_s),
            step_s=median(s.after_step_s),
            workers=self.config.rollout.workers,
            verifiers=max(1, self.config.verifier.workers),
            references=int(self.roles.reference is not None),
        )
        learner = LearnerTimes(
            learner_step_s, learner_token_s, self.config.learner.ranks, median(s.gather_s)
        )
        return System(engine, learner, path, self._contention())

    def _contention(self) -> Contention:
        def factors(role: str) -> tuple[float, float, float]:
            one = max(1.0, _median(self.samples.slower.get((role, 1), [1.0])))
            two = max(one, _median(self.samples.slower.get((role, 2), [1.0])))
            return 1.0, one, two

        return Contention(factors("engine"), factors("learner"), factors("reference"))


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else 0.0


def _items(group: Group) -> list[GradeItem]:
    question = group.request.question
    return [GradeItem(r.answer_text, question.answer, question.kind) for r in group.rollouts]


def _sequences(group: Group) -> list[np.ndarray]:
    return [sequence_tokens(r) for r in group.rollouts]


def _cut(group: Group, size: int) -> Group:
    rewards_G = group.rewards_G
    return replace(
        group,
        rollouts=group.rollouts[:size],
        rewards_G=None if rewards_G is None else rewards_G[:size],
        reference_logprobs=group.reference_logprobs[:size],
    )
