"""What the simulation is given: service times, the shape of the loop, and the work.

All times are seconds of the role running alone; `Contention` says what becomes of them where roles
share cores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class EngineTimes:
    """One rollout worker: a continuous-batching engine.

    A decode step with n running sequences that have K tokens in the cache takes
    `step_s + n sequence_s + K cached_token_s`; each sequence gains one token a step.

    Attributes:
        request_s: added to the step in which a request starts.
        add_s: per request, between two steps (counted as not stepping).
        prompt_token_s: per token that has to be prefilled. Requests of one group share their
            prompt's prefix where `shared_prefix`.
        max_num_seqs: sequences that run at most; the rest wait.
        kv_tokens: cache capacity. Where it runs out the newest sequence is preempted and
            prefilled again later, as vLLM does.
        load_s: generation stall while new weights are loaded.
    """

    step_s: float
    sequence_s: float
    cached_token_s: float = 0.0
    request_s: float = 0.0
    add_s: float = 0.0
    prompt_token_s: float = 0.0
    shared_prefix: bool = True
    max_num_seqs: int = 256
    kv_tokens: float = math.inf
    load_s: float = 0.0


@dataclass(frozen=True)
class LearnerTimes:
    """The learner group.

    A step takes `step_s + token_s x tokens of the busiest rank`. Sequences are not split, so the
    busiest rank has at least the longest one. Before that the driver packs and sends every token:
    `dispatch_token_s` each. `gather_s`: weights made ready to send.
    """

    step_s: float
    token_s: float
    ranks: int = 1
    gather_s: float = 0.0
    dispatch_token_s: float = 0.0

    def train_s(self, tokens: int, longest: int) -> float:
        """Seconds of one step over `tokens` tokens whose longest sequence has `longest`."""
        work_s = self.token_s * max(tokens / self.ranks, longest)
        return self.step_s + work_s + self.dispatch_token_s * tokens


@dataclass(frozen=True)
class PathTimes:
    """Everything between the engine and the learner.

    Attributes:
        call_s: from admission to the worker's first step, and again from the last token to the
            driver; a delay that holds nothing up.
        driver_group_s, driver_token_s: the driver's own CPU time; one group after another.
        answer_s: grading one answer on one verifier.
        reference_group_s, reference_token_s: log-probs of one group on one reference worker.
        broadcast_s: weights from learner to workers while these generate.
        step_s: the driver's bookkeeping after a step, before it takes the next batch.
        workers, verifiers, references: how many there are; no reference: 0.
    """

    call_s: float = 0.0
    driver_group_s: float = 0.0
    driver_token_s: float = 0.0
    answer_s: float = 0.0
    reference_group_s: float = 0.0
    reference_token_s: float = 0.0
    broadcast_s: float = 0.0
    step_s: float = 0.0
    workers: int = 1
    verifiers: int = 1
    references: int = 0


@dataclass(frozen=True)
class Contention:
    """How many times longer a role takes while 0, 1 or 2 of the other roles are busy.

    All ones (the default) is a cluster on which no two roles share a device.
    """

    engine: tuple[float, float, float] = (1.0, 1.0, 1.0)
    learner: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reference: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def any(self) -> bool:
        """Do roles slow each other down at all?"""
        return any(max(f) != 1.0 for f in (self.engine, self.learner, self.reference))


@dataclass(frozen=True)
class System:
    """A cluster as the simulation sees it."""

    engine: EngineTimes
    learner: LearnerTimes
    path: PathTimes = field(default_factory=PathTimes)
    contention: Contention = field(default_factory=Contention)


@dataclass(frozen=True)
class LoopSpec:
    """The loop's constants.

    Attributes:
        overlap_publish: the next step starts when the weights are gathered, not when they are
            loaded.
        stop_after: simulate only so many of the `steps`, so that a steady state is not followed by
            the end of a run, where nothing new is admitted; 0: all.
    """

    steps: int
    prompts_per_step: int
    max_lag: int
    overlap_publish: bool = True
    stop_after: int = 0


@dataclass(frozen=True, slots=True)
class GroupWork:
    """One group: the completion tokens of each rollout, its prompt, and whether its rewards vary.

    Tokens of `lengths_G` are sampled one a step.
    """

    lengths_G: tuple[int, ...]
    prompt_tokens: int
    zero_variance: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of all sequences, prompts included: what learner and reference see."""
        return sum(self.lengths_G) + self.prompt_tokens * len(self.lengths_G)


class Workload(Protocol):
    """Admission number to work; the same number always gives the same work."""

    def group(self, number: int) -> GroupWork:
        """The work of admission `number`."""
        ...


@dataclass(frozen=True)
class Empirical:
    """Groups that were measured, drawn with replacement."""

    groups: Sequence[GroupWork]
    seed: int = 0

    def group(self, number: int) -> GroupWork:
        """The work of admission `number`."""
        index = int(np.random.default_rng((self.seed, number)).integers(len(self.groups)))
        return self.groups[index]


@dataclass(frozen=True)
class ByBudget:
    """A student that keeps to its budget with a log-normal spread.

    One budget b a group, uniform over `budgets`; completion length = answer_tokens +
    b exp(sigma z - sigma^2 / 2), z normal, cut at `max_new_tokens`. Mean b up to the cut.
    """

    budgets: Sequence[int]
    group_size: int
    sigma: float
    zero_variance_share: float
    prompt_tokens: int
    answer_tokens: int
    max_new_tokens: int
    seed: int = 0

    def group(self, number: int) -> GroupWork:
        """The work of admission `number`."""
        rng = np.random.default_rng((self.seed, number))
        budget = self.budgets[int(rng.integers(len(self.budgets)))]
        spread = np.exp(rng.normal(-(self.sigma**2) / 2, self.sigma, self.group_size))
        lengths = np.clip(self.answer_tokens + budget * spread, 1, self.max_new_tokens)
        zero_variance = bool(rng.random() < self.zero_variance_share)
        return GroupWork(tuple(lengths.astype(int).tolist()), self.prompt_tokens, zero_variance)
