"""The four roles, as Protocols: `Sampler`, `Verifier`, `Reference`, `Learner`.

The loops know only these Protocols; `actors/` implements them with Ray, vLLM and DeepSpeed, and the
tests with fakes. Every method that may wait is async; every implementation puts a time limit on
each wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from bard_ray.learn.spec import LossSpec, OptimSpec
from bard_ray.records import (
    Floats,
    GradeItem,
    Group,
    GroupRequest,
    Ints,
    SamplingSpec,
    StepStats,
    TrainSequence,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Published:
    """Gathered weights, ready to be loaded by a sampler.

    Attributes:
        handle: opaque to the library; refers to the weights.
        names: of all parameters.
        num_bytes: size of the weights.
    """

    handle: object
    names: tuple[str, ...]
    num_bytes: int


class Sampler(Protocol):
    """Samples the rollouts of groups, under the newest weights that were loaded."""

    def sample(self, requests: Sequence[GroupRequest], spec: SamplingSpec) -> AsyncIterator[Group]:
        """Yield one group for each request as it completes, in any order; failed ones included."""
        ...

    async def abort(self, numbers: Collection[int]) -> None:
        """Stop generating groups that are not needed any more; each is yielded as a failed one."""
        ...

    async def publish(self, weights: Published, version: int) -> float:
        """Load weights into every worker while requests run.

        Returns:
            The longest generation stall in seconds.

        Raises:
            WeightSyncError: a worker reports another version, or names or sizes do not match.
        """
        ...

    async def load(self, path: str, version: int) -> None:
        """Load the weights of a Hugging Face model directory into every worker, under `version`."""
        ...


class Verifier(Protocol):
    """Grades answers, each within a hard time limit."""

    async def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """One verdict for each item, in order.

        An infrastructure failure is `Outcome.BROKEN`, never an exception.
        """
        ...


class Reference(Protocol):
    """Computes log-probs and hidden states of sequences under a frozen policy."""

    async def load(self, path: str) -> None:
        """Load the frozen policy from a Hugging Face model directory."""
        ...

    async def logprobs(self, sequences: Sequence[Ints], temperature: float) -> list[Floats]:
        """One array [T] of log-probs for each sequence of T tokens.

        Index t is log p(token t | tokens < t), index 0 is 0.
        """
        ...

    async def states(self, sequences: Sequence[Ints]) -> list[Floats]:
        """Mean over the tokens of the last hidden states, one array [H] for each sequence.

        No sequence may be empty.
        """
        ...


class Learner(Protocol):
    """Trains the policy: a group of ranks that holds its weights and optimizer state."""

    async def begin(self, init_path: str, optim: OptimSpec) -> None:
        """Start a training stage from a Hugging Face model directory, with a fresh optimizer."""
        ...

    async def step(
        self, sequences: Sequence[TrainSequence], loss: LossSpec, lr: float
    ) -> StepStats:
        """Take one optimizer step on all sequences.

        The loss is a mean over tokens with one global denominator.
        """
        ...

    async def publish(self) -> Published:
        """Gather the current weights in the rollout dtype, for `Sampler.publish`."""
        ...

    async def export(self, path: str) -> None:
        """Write a Hugging Face model directory: configuration, safetensors and tokenizer."""
        ...

    async def save(self, path: str) -> None:
        """Write weights and optimizer state into the empty directory `path`, for `restore`."""
        ...

    async def restore(self, path: str, optim: OptimSpec) -> None:
        """Resume from the state that `save` wrote."""
        ...
