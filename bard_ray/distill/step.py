"""Steps of the data pipeline: each turns records into records, and drops some with a reason.

`distill.steps` lists them in order, as names or as `{name: {parameter: value}}`. A step is a file
of `bard_ray.distill.steps` (async, since it may query models), a filter of
`bard_ray.distill.filters` (pure), or the user's own as `module:Class`. Records start as questions
without chains, or with the chains that the data set has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from bard_ray.data.prompt import PromptFormat
from bard_ray.distill.filter import Candidate, Counters, FilterContext, StepResult, new_counters
from bard_ray.distill.teacher import Teacher
from bard_ray.plugins import Registry
from bard_ray.roles import Reference, Sampler, Verifier

T = TypeVar("T")
CHUNK_QUESTIONS = 256  # of a step that names no other number


class FunctionRunner(Protocol):
    """Runs a pure function with picklable arguments outside the event loop."""

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Return the function's result; its exceptions are raised as they are."""
        ...


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """The `FunctionRunner` of a single process: a thread."""
    return await asyncio.to_thread(function, *args)


@dataclass(frozen=True)
class StepTools:
    """What a step may use besides its records. Roles and models start at the first request.

    Attributes:
        seed: of the run.
        teacher_name: whose chains are wanted, a name in `distill.teachers`.
        prompts: the student's prompt format.
        train_budgets: budgets that rows may have, tokens, ascending.
        context: evaluation questions and think tags, for filters.
        verifier: grades answers.
        teacher: opens a teacher of the configuration by its name, once.
        student: the student's rollout workers, with the weights that the stage `sft` starts from.
        reference: log-probs under a model directory; `""` is the student.
        compute: runs a pure function outside the event loop, on any machine of the cluster.
        counters: a step's own figures for the data report: `tools.counters["retries"] += 1`.
    """

    seed: int
    teacher_name: str
    prompts: PromptFormat
    train_budgets: tuple[int, ...]
    context: FilterContext
    verifier: Callable[[], Awaitable[Verifier]]
    teacher: Callable[[str], Awaitable[Teacher]]
    student: Callable[[], Awaitable[Sampler]]
    reference: Callable[[str], Awaitable[Reference]]
    compute: FunctionRunner = in_thread
    counters: Counters = field(default_factory=new_counters)


class Step(Protocol):
    """One step; its fields are its parameters, its declarations are in its `Traits`.

    The result for a chunk depends on that chunk, on the parameters, and on the `DEPENDS_ON` of the
    class. An attribute `chunk_questions`, if there is one, is the number of questions of a chunk;
    0 means all of them.
    """

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        """Return records in order, each with the reason why it is dropped, or with an empty one.

        Args:
            records: the chains of one question follow each other.
            tools: what it may use.
        """
        ...


STEPS: Registry[Step] = Registry("distill.steps", "bard_ray.distill.steps", method="run")


def chunk_questions(step: Step) -> int:
    """Questions that a step gets at a time; 0: all of them."""
    return int(getattr(step, "chunk_questions", CHUNK_QUESTIONS))
