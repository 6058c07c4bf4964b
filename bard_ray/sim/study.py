"""From hardware to service times, and from service times to a cluster's size.

Every number of `Hardware` and `Student` is an assumption until its user has replaced it; each says
where it comes from. The defaults describe an 8B student on H200-class GPUs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from bard_ray.sim.loop import Result, simulate
from bard_ray.sim.model import (
    ByBudget,
    EngineTimes,
    LearnerTimes,
    LoopSpec,
    PathTimes,
    System,
)

WARM = 3  # steps left out at the start of a simulated run, and one more for each step of lag
# Steps counted: enough for so many groups, and within bounds.
KEPT_GROUPS, FEWEST, MOST = 2048, 5, 40
MOMENT_GROUPS = 4000  # groups drawn for the mean length


@dataclass(frozen=True)
class Student:
    """An 8B decoder: Qwen3-8B's published configuration.

    Attributes:
        params: parameters.
        kv_bytes: cache bytes a token: 2 x 36 layers x 8 heads x 128 x 2 bytes.
        state_bytes: learner bytes a parameter: bf16 weights and gradients, fp32 master and two
            Adam moments.
    """

    params: float = 8.19e9
    kv_bytes: float = 147_456.0
    state_bytes: float = 16.0


@dataclass(frozen=True)
class Hardware:
    """One GPU and what connects it. "Vendor": data sheet; "assumed": ours, to be measured.

    Attributes:
        flops: dense bf16 of an H100 or H200. Vendor.
        memory_bytes, memory_bytes_s: H200; an H100 has 80e9 and 3.35e12. Vendor.
        memory_share: of the memory given to weights and cache. vLLM's default 0.9.
        decode_efficiency: share of the memory bandwidth that decoding reaches. Assumed.
        engine_step_s: scheduler and launch time of a step. Assumed.
        engine_sequence_s: the same a running sequence, and sampling. Assumed: a fifth of what a
            small model costs on one CPU core.
        prefill_utilization: share of `flops` in prefill and log-probs. Assumed.
        learner_utilization: share of `flops` in training, recompute not counted as useful.
            Assumed; prime-rl publishes 0.21 for a 4B LoRA on one H100.
        learner_step_s: optimizer, norms and barriers of a step. Assumed.
        link_bytes_s: effective rate of a weight broadcast. Assumed, 40 GB/s.
        tree_broadcast: a pipelined tree takes one transfer whatever the number of nodes; else
            each node of `node_gpus` is sent its own copy, one after another.
        load_s: generation stall while weights are put in place. Assumed.
        answer_s: grading one answer. Assumed; verifiers are CPUs, `verifiers_per_node` a node.
        driver_group_s: driver CPU a group. The design's bound; the tiny recipe took 1.9 ms on a
            machine that other jobs kept busy.
        driver_token_s, dispatch_token_s: the driver's CPU a token, unpickling groups and feeding
            reference and learner. Measured on one core of a Xeon with 10,000-token rollouts.
    """

    flops: float = 989e12
    memory_bytes: float = 141e9
    memory_bytes_s: float = 4.8e12
    memory_share: float = 0.9
    decode_efficiency: float = 0.6
    engine_step_s: float = 2e-3
    engine_sequence_s: float = 12e-6
    prefill_utilization: float = 0.4
    learner_utilization: float = 0.35
    learner_step_s: float = 2.0
    link_bytes_s: float = 40e9
    tree_broadcast: bool = True
    node_gpus: int = 8
    load_s: float = 0.3
    answer_s: float = 0.05
    verifiers_per_node: int = 8
    driver_group_s: float = 1e-3
    driver_token_s: float = 20e-9
    dispatch_token_s: float = 20e-9


@dataclass(frozen=True)
class Work:
    """What is asked of the student; `zero_variance_share` of the groups is assumed."""

    budgets: tuple[int, ...] = (1000, 2000, 4000, 8000, 16_000, 32_000)
    group_size: int = 16
    sigma: float = 0.35
    zero_variance_share: float = 0.3
    prompt_tokens: int = 300
    answer_tokens: int = 500
    max_new_tokens: int = 36_864

    def by_budget(self, seed: int) -> ByBudget:
        """As a workload."""
        return ByBudget(
            self.budgets,
            self.group_size,
            self.sigma,
            self.zero_variance_share,
            self.prompt_tokens,
            self.answer_tokens,
            self.max_new_tokens,
            seed,
        )

    def moments(self) -> tuple[float, float, float]:
        """Mean completion tokens, mean cached tokens of a running sequence, and a long answer.

        An answer is seen running the longer it is: the second is E[L^2] / 2 E[L] + prompt. The
        third is the 99th percentile of the completion tokens.
        """
        return _moments(self)


@lru_cache
def _moments(work: Work) -> tuple[float, float, float]:
    drawn = work.by_budget(seed=1)
    lengths = np.array([drawn.group(i).lengths_G for i in range(MOMENT_GROUPS)], float)
    mean = float(lengths.mean())
    context = float((lengths**2).mean()) / (2 * mean) + work.prompt_tokens
    return mean, context, float(np.percentile(lengths, 99))


@dataclass(frozen=True)
class Split:
    """How many GPUs each role has."""

    rollout: int
    learner: int
    reference: int

    @property
    def gpus(self) -> int:
        """All of them."""
        return self.rollout + self.learner + self.reference


@dataclass(frozen=True)
class Scenario:
    """A student, its work and the hardware."""

    student: Student = field(default_factory=Student)
    hardware: Hardware = field(default_factory=Hardware)
    work: Work = field(default_factory=Work)

    def max_num_seqs(self) -> int:
        """Sequences whose mean context fills the cache to 0.85: few are preempted then."""
        _, context, _ = self.work.moments()
        return max(1, int(0.85 * self.kv_tokens() / context))

    def kv_tokens(self) -> float:
        """Tokens the cache of one GPU holds, beside bf16 weights and 4 GB of activations."""
        h, s = self.hardware, self.student
        return (h.memory_share * h.memory_bytes - 2 * s.params - 4e9) / s.kv_bytes

    def engine(self) -> EngineTimes:
        """One GPU that generates: decoding is bound by reading weights and cache."""
        h, s = self.hardware, self.student
        read = h.memory_bytes_s * h.decode_efficiency
        forward_s = 2 * s.params / (h.flops * h.prefill_utilization)
        return EngineTimes(
            step_s=2 * s.params / read + h.engine_step_s,
            sequence_s=forward_s + h.engine_sequence_s,
            cached_token_s=s.kv_bytes / read,
            prompt_token_s=forward_s,
            max_num_seqs=self.max_num_seqs(),
            kv_tokens=self.kv_tokens(),
            load_s=h.load_s,
        )

    def learner(self, ranks: int) -> LearnerTimes:
        """ZeRO-3 over `ranks` GPUs with recompute: 8 FLOPs a parameter and token."""
        h, s = self.hardware, self.student
        token_s = 6 * s.params / (h.flops * h.learner_utilization)
        gather_s = 2 * s.params / h.link_bytes_s
        return LearnerTimes(h.learner_step_s, token_s, ranks, gather_s, h.dispatch_token_s)

    def system(self, split: Split) -> System:
        """Service times of a cluster."""
        h, s = self.hardware, self.student
        nodes = -(-split.rollout // h.node_gpus)
        copies = 1 if h.tree_broadcast else nodes
        path = PathTimes(
            call_s=5e-3,
            driver_group_s=h.driver_group_s,
            driver_token_s=h.driver_token_s,
            answer_s=h.answer_s,
            reference_token_s=2 * s.params / (h.flops * h.prefill_utilization),
            broadcast_s=copies * 2 * s.params / h.link_bytes_s,
            workers=split.rollout,
            verifiers=h.verifiers_per_node * -(-split.gpus // h.node_gpus),
            references=split.reference,
        )
        return System(self.engine(), self.learner(split.learner), path)

    # --- sizing

    def rates(self) -> tuple[float, float, float]:
        """Tokens a second of one GPU as engine (full batch), learner rank and reference."""
        e, (_, context, _) = self.engine(), self.work.moments()
        n = e.max_num_seqs
        step_s = e.step_s + n * (e.sequence_s + context * e.cached_token_s)
        return n / step_s, 1 / self.learner(1).token_s, 1 / self._reference_token_s()

    def _reference_token_s(self) -> float:
        return 2 * self.student.params / (self.hardware.flops * self.hardware.prefill_utilization)

    def rollout_per_learner(self) -> float:
        """Engines that keep one learner rank busy.

        Per trained group the engines sample c / (1 - f) tokens and the learner trains on c + p:

            rollout / learner = (c / (1 - f)) / (c + p) x l / g

        with c completion and p prompt tokens, f the zero-variance share, g and l the tokens a
        second of one engine and one rank. Source: ours.
        """
        g, learner, _ = self.rates()
        completion, *_ = self.work.moments()
        share = completion / (completion + self.work.prompt_tokens)
        return share / (1 - self.work.zero_variance_share) * learner / g

    def ideal_samples_per_gpu_hour(self) -> float:
        """Trained rollouts a GPU and hour if no GPU ever waited: what a split could reach at best.

        One trained rollout costs c / ((1 - f) g) + (c + p) / l + (c + p) / r GPU seconds, r being
        the tokens a second of one reference. Source: ours.
        """
        g, learner, reference = self.rates()
        completion, *_ = self.work.moments()
        whole = completion + self.work.prompt_tokens
        sampling_s = completion / (1 - self.work.zero_variance_share) / g
        return 3600 / (sampling_s + whole / learner + whole / reference)

    def least_lag(self, split: Split, prompts_per_step: int) -> int:
        """Smallest `max_lag` that keeps the engines full.

        While the first group in order has still to finish an answer of T seconds, the others go on
        finishing, and hold their slots: T / (step seconds) x P of them. C sequences are running
        and P groups are being trained on. So the window has to hold

            (max_lag + 1) P >= C / G + T / step P + P,  or  max_lag >= C / (P G) + T / step

        with the step of the ideal split and T at the speed of a full batch. Source: ours.
        """
        engine, _, _ = self.rates()
        *_, longest = self.work.moments()
        running = split.rollout * self.max_num_seqs()
        samples = prompts_per_step * self.work.group_size
        step_s = 3600 * samples / (split.gpus * self.ideal_samples_per_gpu_hour())
        answer_s = longest * self.max_num_seqs() / engine
        return math.ceil(running / samples + answer_s / step_s)

    def least_learners(self) -> int:
        """GPUs that hold weights, gradients and optimizer in four fifths of their memory."""
        bytes_needed = self.student.params * self.student.state_bytes
        return -(-int(bytes_needed) // int(0.8 * self.hardware.memory_bytes))

    def split(self, gpus: int, rollout_per_learner: float | None = None) -> Split:
        """Share out GPUs so that no role waits for another, by the closed form above."""
        ratio = self.rollout_per_learner() if rollout_per_learner is None else rollout_per_learner
        _, learner, reference = self.rates()
        per_learner = 1 + ratio + learner / reference
        references = max(1, round(gpus * learner / reference / per_learner))
        learners = max(self.least_learners(), round((gpus - references) / (1 + ratio)))
        return Split(gpus - references - learners, learners, references)


@dataclass(frozen=True, slots=True)
class Point:
    """One simulated cluster."""

    split: Split
    spec: LoopSpec
    figures: dict[str, float]
    preempted_per_sample: float

    @property
    def samples_per_gpu_hour(self) -> float:
        """Trained rollouts a GPU and hour."""
        return 3600 * self.figures["samples_per_s"] / self.split.gpus


def run_point(scenario: Scenario, split: Split, spec: LoopSpec, seed: int = 0) -> Point:
    """Simulate one cluster in its steady state; `spec.steps` is set here."""
    warm = WARM + spec.max_lag
    kept = min(MOST, max(FEWEST, KEPT_GROUPS // spec.prompts_per_step))
    stop = warm + kept
    spec = replace(spec, steps=stop + spec.max_lag + 1, stop_after=stop)
    result: Result = simulate(scenario.system(split), spec, scenario.work.by_budget(seed))
    samples = sum(step.samples for step in result.steps)
    return Point(split, spec, result.steady(warm), result.preempted / samples)
