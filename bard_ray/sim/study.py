"""From hardware figures to service times, and from service times to the size of a cluster.

Every number of `Hardware`, `StudentModel` and `StudyWorkload` is an assumption to be replaced by
your own measurement; each states its source. The defaults describe an 8B student on H200-class
GPUs.
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

WARM = 3  # warm-up steps left out of a simulated run, plus one for each step of lag
# Steps that are averaged: enough for this many groups, but between the two bounds.
KEPT_GROUPS, MIN_STEPS, MAX_STEPS = 2048, 5, 40
MOMENT_GROUPS = 4000  # groups drawn to estimate the moments of the lengths


@dataclass(frozen=True)
class StudentModel:
    """A decoder; the defaults are Qwen3-8B's published configuration.

    Attributes:
        params: number of parameters.
        kv_bytes: cache bytes per token: 2 x 36 layers x 8 heads x 128 x 2 bytes.
        state_bytes: learner bytes per parameter: bf16 weights and gradients, fp32 master weights
            and two Adam moments.
    """

    params: float = 8.19e9
    kv_bytes: float = 147_456.0
    state_bytes: float = 16.0


@dataclass(frozen=True)
class Hardware:
    """One GPU and its network. "Vendor": from the data sheet; "assumed": ours, to be measured.

    Attributes:
        flops: dense bf16 FLOP/s of an H100 or H200. Vendor.
        memory_bytes, memory_bytes_s: capacity and bandwidth of an H200; an H100 has 80e9 and
            3.35e12. Vendor.
        memory_share: share of the memory for weights and cache. vLLM's default, 0.9.
        decode_efficiency: share of the memory bandwidth that decoding reaches. Assumed.
        engine_step_s: scheduler and launch time of a step. Assumed.
        engine_sequence_s: the same per running sequence, sampling included. Assumed: a fifth of
            that of a small model on one CPU core.
        prefill_utilization: share of `flops` in prefill and log-probs. Assumed.
        learner_utilization: share of `flops` in training, recompute not counted as useful.
            Assumed; prime-rl publishes 0.21 for a 4B LoRA on one H100.
        learner_step_s: optimizer, norms and barriers of a step. Assumed.
        link_bytes_s: effective rate of a weight broadcast. Assumed, 40 GB/s.
        tree_broadcast: a pipelined tree takes the time of one transfer whatever the number of
            nodes; otherwise each node of `node_gpus` GPUs gets its own copy, one after another.
        load_s: generation stall of a weight update. Assumed.
        answer_s: grading one answer. Assumed.
        verifiers_per_node: verifier workers of a node, on its CPU cores. Assumed.
        driver_group_s: driver CPU time per group. The design's bound; the tiny recipe took 1.9 ms
            on a machine that other jobs kept busy.
        driver_token_s, dispatch_token_s: driver CPU time per token, for unpickling groups and for
            sending to reference and learner. Measured on one core of a Xeon with 10,000-token
            rollouts.
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
class StudyWorkload:
    """The rollouts of the study; its zero-variance share and sigma are assumed."""

    budgets: tuple[int, ...] = (1000, 2000, 4000, 8000, 16_000, 32_000)
    group_size: int = 16
    sigma: float = 0.35
    zero_variance_share: float = 0.3
    prompt_tokens: int = 300
    answer_tokens: int = 500
    max_new_tokens: int = 36_864

    def by_budget(self, seed: int) -> ByBudget:
        """The same as a `Workload` of the simulation."""
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
        """Mean completion tokens, mean cached tokens of a running sequence, long completion.

        The chance that a sequence is among the running ones is proportional to its length L, so the
        second is E[L^2] / 2 E[L] + prompt. The third is the 99th percentile of the completion
        tokens.
        """
        return _moments(self)


@lru_cache
def _moments(work: StudyWorkload) -> tuple[float, float, float]:
    drawn = work.by_budget(seed=1)
    lengths = np.array([drawn.group(i).lengths_G for i in range(MOMENT_GROUPS)], float)
    mean = float(lengths.mean())
    context = float((lengths**2).mean()) / (2 * mean) + work.prompt_tokens
    return mean, context, float(np.percentile(lengths, 99))


@dataclass(frozen=True)
class Split:
    """Number of GPUs of each role."""

    rollout: int
    learner: int
    reference: int

    @property
    def gpus(self) -> int:
        """Total number of GPUs."""
        return self.rollout + self.learner + self.reference


@dataclass(frozen=True)
class Scenario:
    """A student, its workload and the hardware."""

    student: StudentModel = field(default_factory=StudentModel)
    hardware: Hardware = field(default_factory=Hardware)
    work: StudyWorkload = field(default_factory=StudyWorkload)

    def max_num_seqs(self) -> int:
        """Number of sequences whose mean contexts fill 0.85 of the cache, so few are preempted."""
        _, context, _ = self.work.moments()
        return max(1, int(0.85 * self.kv_tokens() / context))

    def kv_tokens(self) -> float:
        """Cache capacity of one GPU in tokens, next to bf16 weights and 4 GB of activations."""
        h, s = self.hardware, self.student
        return (h.memory_share * h.memory_bytes - 2 * s.params - 4e9) / s.kv_bytes

    def engine(self) -> EngineTimes:
        """Service times of one generating GPU; decoding is bound by reading weights and cache."""
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
        """Service times of ZeRO-3 over `ranks` GPUs.

        With recompute, 8 FLOPs per parameter and token, 6 of which count as useful.
        """
        h, s = self.hardware, self.student
        token_s = 6 * s.params / (h.flops * h.learner_utilization)
        gather_s = 2 * s.params / h.link_bytes_s
        return LearnerTimes(h.learner_step_s, token_s, ranks, gather_s, h.dispatch_token_s)

    def system(self, split: Split) -> System:
        """Service times of a cluster with this split."""
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
        """Tokens per second of one GPU as engine (full batch), learner rank and reference."""
        e, (_, context, _) = self.engine(), self.work.moments()
        n = e.max_num_seqs
        step_s = e.step_s + n * (e.sequence_s + context * e.cached_token_s)
        return n / step_s, 1 / self.learner(1).token_s, 1 / self._reference_token_s()

    def _reference_token_s(self) -> float:
        return 2 * self.student.params / (self.hardware.flops * self.hardware.prefill_utilization)

    def rollout_per_learner(self) -> float:
        """Number of engines that keep one learner rank busy.

        Per trained rollout the engines sample c / (1 - f) tokens and the learner trains on c + p:

            rollout / learner = (c / (1 - f)) / (c + p) x l / g

        with c completion and p prompt tokens, f the zero-variance share, g and l the tokens per
        second of one engine and one rank. Source: ours.
        """
        g, learner, _ = self.rates()
        completion, *_ = self.work.moments()
        share = completion / (completion + self.work.prompt_tokens)
        return share / (1 - self.work.zero_variance_share) * learner / g

    def ideal_samples_per_gpu_hour(self) -> float:
        """Trained rollouts per GPU-hour if no GPU ever waited: an upper bound for any split.

        One trained rollout costs c / ((1 - f) g) + (c + p) / l + (c + p) / r GPU-seconds, where r
        is the tokens per second of one reference. Source: ours.
        """
        g, learner, reference = self.rates()
        completion, *_ = self.work.moments()
        whole = completion + self.work.prompt_tokens
        sampling_s = completion / (1 - self.work.zero_variance_share) / g
        return 3600 / (sampling_s + whole / learner + whole / reference)

    def least_lag(self, split: Split, prompts_per_step: int) -> int:
        """Smallest `max_lag` that keeps the engines full.

        While the group that is next in order is still sampling an answer of T seconds, other groups
        finish and hold their slots: T / (step seconds) x P of them. C sequences are running and P
        groups are being trained on. So the window must hold

            (max_lag + 1) P >= C / G + T / step P + P,  or  max_lag >= C / (P G) + T / step

        with the step time of the ideal split and T at the speed of a full batch. Source: ours.
        """
        engine, _, _ = self.rates()
        *_, longest = self.work.moments()
        running = split.rollout * self.max_num_seqs()
        samples = prompts_per_step * self.work.group_size
        step_s = 3600 * samples / (split.gpus * self.ideal_samples_per_gpu_hour())
        answer_s = longest * self.max_num_seqs() / engine
        return math.ceil(running / samples + answer_s / step_s)

    def least_learners(self) -> int:
        """Least number of GPUs whose memory, to four fifths, holds the learner's state."""
        bytes_needed = self.student.params * self.student.state_bytes
        return -(-int(bytes_needed) // int(0.8 * self.hardware.memory_bytes))

    def split(self, gpus: int, rollout_per_learner: float | None = None) -> Split:
        """Split GPUs so that no role waits for another, by the closed form above."""
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
        """Trained rollouts per GPU-hour."""
        return 3600 * self.figures["samples_per_s"] / self.split.gpus


def run_point(scenario: Scenario, split: Split, spec: LoopSpec, seed: int = 0) -> Point:
    """Simulate one cluster in steady state; `spec.steps` is replaced."""
    warm = WARM + spec.max_lag
    kept = min(MAX_STEPS, max(MIN_STEPS, KEPT_GROUPS // spec.prompts_per_step))
    stop = warm + kept
    spec = replace(spec, steps=stop + spec.max_lag + 1, stop_after=stop)
    result: Result = simulate(scenario.system(split), spec, scenario.work.by_budget(seed))
    samples = sum(step.samples for step in result.steps)
    return Point(split, spec, result.steady(warm), result.preempted / samples)
