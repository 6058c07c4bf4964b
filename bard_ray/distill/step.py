"""Steps of the data pipeline: each turns records into records, and drops some with a reason.

`distil.steps` lists them in order, as names or as `{name: {parameter: value}}`. A step is a file of
`bard_ray.distill.steps` (it may ask models, so it is async), a selection of
`bard_ray.distill.curate` (pure), or the user's own as `module:Class`. Records begin as questions
without chains, or with those that the data set has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from bard_ray.data.prompt import PromptFormat
from bard_ray.distill.stage import Candidate, Context, Judged
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
        teacher_name: whose chains are wanted, a name in `distil.teachers`.
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
    context: Context
    verifier: Callable[[], Awaitable[Verifier]]
    teacher: Callable[[str], Awaitable[Teacher]]
    student: Callable[[], Awaitable[Sampler]]
    reference: Callable[[str], Awaitable[Reference]]
    compute: Compute = in_thread


class Step(Protocol):
    """One step; its fields are its parameters.

    What it makes of a chunk depends on that chunk alone, and on what `USES` names of `MATTERS`.
    """

    USES: ClassVar[tuple[str, ...]]

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
MATTERS = ("seed", "teacher", "writer", "student", "tokenizer", "evaluation", "budgets", "grading")

STEPS: Registry[Step] = Registry("distil.steps", "bard_ray.distill.steps", method="run")


def name_and_params(entry: object) -> tuple[str, Mapping[str, Any]]:
    """An entry of `distil.steps`: `teach`, or `{teach: {chains: 4}}`.

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
