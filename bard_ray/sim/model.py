"""The simulation's inputs: service times of the roles, constants of the loop, the workload.

All times are seconds of the role running alone; `Contention` is the slow-down where roles share
cores.
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
        step_s, sequence_s, cached_token_s: see above.
        request_s: per request, added to the step in which it starts.
        add_s: per request, between two steps (not counted as busy).
        prompt_token_s: per prefilled token.
        shared_prefix: the prompt is prefilled only once for all requests of a group.
        max_num_seqs: largest number of running sequences; the others wait.
        kv_tokens: cache capacity. If the cache is full, the newest sequence is preempted and
            prefilled again later, as in vLLM.
        load_s: generation stall of a weight update.
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
    busiest rank has at least the longest one.

    Attributes:
        step_s, token_s: see above.
        ranks: number of ranks.
        gather_s: gathering the weights.
        dispatch_token_s: per token, for the driver to pack and send it before the step.
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
    """Everything between engines and learner.

    Attributes:
        call_s: latency from admission to the worker, and again from the last token to the driver;
            it occupies no resource.
        driver_group_s, driver_token_s: CPU time of the driver, which handles one group at a time.
        answer_s: grading one answer on one verifier.
        reference_group_s, reference_token_s: log-probs of one group on one reference worker.
        broadcast_s: weights from the learner to the workers, which continue to generate.
        step_s: the driver's bookkeeping after a step, before it takes the next batch.
        workers, verifiers, references: their numbers; `references` may be 0.
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
    """Slow-down factors of a role while 0, 1 or 2 of the other roles are busy.

    The default, all ones, is a cluster on which no two roles share a device.
    """

    engine: tuple[float, float, float] = (1.0, 1.0, 1.0)
    learner: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reference: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def any(self) -> bool:
        """True where some role slows another down."""
        return any(max(f) != 1.0 for f in (self.engine, self.learner, self.reference))


@dataclass(frozen=True)
class System:
    """A simulated cluster: service times of all roles."""

    engine: EngineTimes
    learner: LearnerTimes
    path: PathTimes = field(default_factory=PathTimes)
    contention: Contention = field(default_factory=Contention)


@dataclass(frozen=True)
class LoopSpec:
    """Constants of the loop.

    Attributes:
        steps: optimizer steps of the run.
        prompts_per_step: groups of a step.
        max_lag: bound of the lag, steps.
        overlap_publish: the next step starts when the weights are gathered, not when they are
            loaded.
        stop_after: simulate only this many of the `steps`, without the end of the run, where no
            groups are admitted; 0: all.
    """

    steps: int
    prompts_per_step: int
    max_lag: int
    overlap_publish: bool = True
    stop_after: int = 0


@dataclass(frozen=True, slots=True)
class GroupWork:
    """The work of one group.

    Attributes:
        lengths_G: completion tokens of each rollout, sampled one per engine step.
        prompt_tokens: tokens of the prompt.
        zero_variance: its rewards are all equal.
    """

    lengths_G: tuple[int, ...]
    prompt_tokens: int
    zero_variance: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of all sequences, prompts included, as the learner and the reference see them."""
        return sum(self.lengths_G) + self.prompt_tokens * len(self.lengths_G)


class Workload(Protocol):
    """Work by admission number; the same number always gives the same work."""

    def group(self, number: int) -> GroupWork:
        """The work of admission `number`."""
        ...


@dataclass(frozen=True)
class Empirical:
    """Measured groups, drawn with replacement."""

    groups: Sequence[GroupWork]
    seed: int = 0

    def group(self, number: int) -> GroupWork:
        """The work of admission `number`."""
        index = int(np.random.default_rng((self.seed, number)).integers(len(self.groups)))
        return self.groups[index]


@dataclass(frozen=True)
class ByBudget:
    """A student whose thinking lengths are log-normal around the budget.

    Each group has one budget b, uniform over `budgets`. Completion length = answer_tokens +
    b exp(sigma z - sigma^2 / 2), z standard normal, truncated at `max_new_tokens`. The mean
    thinking length is b, apart from the truncation.
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
