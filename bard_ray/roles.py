"""The four roles that the loops are written against.

Loops know only these Protocols; `actors/` adapts Ray, vLLM and DeepSpeed to them, and the tests
adapt fakes. Every method that may wait is async; every implementation puts a time limit on what it
waits for.
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
    """Weights ready to be loaded by samplers.

    `handle` is opaque to the library, `names` and `num_bytes` are checked.
    """

    handle: object
    names: tuple[str, ...]
    num_bytes: int


class Sampler(Protocol):
    """Turns group requests into groups with rollouts, under the newest weights it was given."""

    def sample(self, requests: Sequence[GroupRequest], spec: SamplingSpec) -> AsyncIterator[Group]:
        """Yield one group per request as each completes, in any order.

        A failed one carries its reason.
        """
        ...

    async def abort(self, numbers: Collection[int]) -> None:
        """Stop generating groups that nobody needs any more; each is yielded as a failed one."""
        ...

    async def publish(self, weights: Published, version: int) -> float:
        """Load weights into every worker while requests run.

        Returns the longest generation stall in seconds.

        Raises:
            WeightSyncError: a worker reports another version, name set or size than was sent.
        """
        ...

    async def load(self, path: str, version: int) -> None:
        """Load the weights of a Hugging Face model directory into every worker, under `version`."""
        ...


class Verifier(Protocol):
    """Grades answers within a hard time limit."""

    async def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """One verdict per item, in order.

        Infrastructure trouble is `Outcome.BROKEN`, never an exception.
        """
        ...


class Reference(Protocol):
    """Log-probs and hidden states of given sequences under a frozen policy."""

    async def load(self, path: str) -> None:
        """Load the frozen policy from a Hugging Face model directory."""
        ...

    async def logprobs(self, sequences: Sequence[Ints], temperature: float) -> list[Floats]:
        """Per sequence of T tokens an array of T log-probs.

        Index t is log p(token t | tokens < t), index 0 is 0.
        """
        ...

    async def states(self, sequences: Sequence[Ints]) -> list[Floats]:
        """Per sequence the mean over its tokens of the last hidden states, [H].

        No sequence is empty.
        """
        ...


class Learner(Protocol):
    """A group of ranks that holds the policy and its optimizer."""

    async def begin(self, init_path: str, optim: OptimSpec) -> None:
        """Start a training stage from a Hugging Face model directory, with a fresh optimizer."""
        ...

    async def step(
        self, sequences: Sequence[TrainSequence], loss: LossSpec, lr: float
    ) -> StepStats:
        """One optimizer step over all sequences.

        The loss is a token mean with one global denominator.
        """
        ...

    async def publish(self) -> Published:
        """Current weights, gathered, in the rollout dtype, ready for `Sampler.publish`."""
        ...

    async def export(self, path: str) -> None:
        """Write the current weights as a Hugging Face model directory.

        It holds configuration, safetensors and tokenizer.
        """
        ...

    async def save(self, path: str) -> None:
        """Write resumable state (weights, optimizer) into the empty directory `path`."""
        ...

    async def restore(self, path: str, optim: OptimSpec) -> None:
        """Go on from `save`d state."""
        ...
