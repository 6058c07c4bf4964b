"""Steps of the data pipeline: each turns records into records, and drops some with a reason.

`distill.steps` lists them in order, as names or as `{name: {parameter: value}}`. A step is a file
of `bard_ray.distill.steps` (it may ask models, so it is async), a selection of
`bard_ray.distill.filters` (pure), or the user's own as `module:Class`. Records begin as questions
without chains, or with those that the data set has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from bard_ray.config.schema import DistillConfig
from bard_ray.data.prompt import PromptFormat
from bard_ray.distill.filter import Candidate, FilterContext, Judged
from bard_ray.distill.teacher import Teacher
from bard_ray.plugins import Registry
from bard_ray.roles import Reference, Sampler, Verifier

T = TypeVar("T")


class Compute(Protocol):
    """Runs a pure function of picklable arguments elsewhere."""

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Its result; its exceptions come as they are."""
        ...


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """The `Compute` of a process that is alone."""
    return await asyncio.to_thread(function, *args)


@dataclass(frozen=True)
class Tools:
    """What steps may use beside their records. Providers start what they give when first asked.

    Attributes:
        seed: of the run.
        teacher_name: whose chains are wanted, a name in `distill.teachers`.
        prompts: how the student reads and writes.
        taught: budgets that may be taught, tokens, ascending.
        context: evaluation questions and think tags, for selections.
        verifier: grades answers.
        teacher: opens a teacher of the configuration by its name, once.
        student: the student's rollout workers, with the weights it starts the supervised stage
            from.
        reference: log-probs under a model directory; `""` is the student.
        compute: runs a pure function beside the event loop, on any machine of the cluster.
    """

    seed: int
    teacher_name: str
    prompts: PromptFormat
    taught: tuple[int, ...]
    context: FilterContext
    verifier: Callable[[], Awaitable[Verifier]]
    teacher: Callable[[str], Awaitable[Teacher]]
    student: Callable[[], Awaitable[Sampler]]
    reference: Callable[[str], Awaitable[Reference]]
    compute: Compute = in_thread


class Step(Protocol):
    """One step; its fields are its parameters.

    What it makes of a chunk depends on that chunk alone, and on what `DEPENDS_ON` names of
    `FINGERPRINT_INPUTS`.
    """

    DEPENDS_ON: ClassVar[tuple[str, ...]]

    @property
    def questions(self) -> int:
        """Questions of a chunk; 0: it has to see all of them at once."""
        ...

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        """The records that come out, in order, each with an empty reason, or with why it is out.

        Args:
            records: the chains of one question follow each other.
            tools: what it may use.
        """
        ...


# What the output of a step may follow from, beside its records and parameters.
FINGERPRINT_INPUTS = (
    "seed",
    "teacher",
    "writer",
    "student",
    "tokenizer",
    "evaluation",
    "budgets",
    "grading",
)

STEPS: Registry[Step] = Registry("distill.steps", "bard_ray.distill.steps", method="run")


def name_and_params(entry: object) -> tuple[str, Mapping[str, Any]]:
    """An entry of `distill.steps`: `teach`, or `{teach: {chains: 4}}`.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, params),) = entry.items()
        if isinstance(name, str) and isinstance(params, Mapping):
            return name, {str(key): value for key, value in params.items()}
    msg = "must be a step's name, or {name: {parameter: value}}"
    raise ValueError(msg)


def step_names(distill: DistillConfig) -> list[str]:
    """Names of the steps, malformed entries left out."""
    names = []
    for entry in distill.steps:
        with suppress(ValueError):
            names.append(name_and_params(entry)[0])
    return names
