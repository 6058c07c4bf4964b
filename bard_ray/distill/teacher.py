"""Teachers: who writes chains, and who rewrites them. One Protocol, whatever is behind it.

A configuration names candidates under `distill.teachers`: `{r1: {backend: openai, model: ...}}`. A
backend is a file of `bard_ray.distill.teachers` with one frozen dataclass, or the user's own as
`module:Class`; what it opens answers asks, one by one, as many at a time as it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bard_ray.config.schema import StudentConfig
from bard_ray.data.prompt import PromptFormat, load_prompt_format
from bard_ray.distill.identity import digest
from bard_ray.errors import ConfigError
from bard_ray.plugins import Registry
from bard_ray.records import Message, Question
from bard_ray.roles import Sampler

Ended = Literal["stop", "length", "failed"]


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One text wanted of a teacher.

    Attributes:
        messages: the conversation so far; the teacher writes the next turn.
        max_tokens: of that turn, thinking included, in tokens of the teacher.
        temperature: 0 is greedy.
        seed: the same ask with another seed is another sample.
        question: what the messages come from; the exact teacher of the synthetic task reads it.
        think: a thought that the turn begins with; the teacher goes on behind it. None: it thinks
            for itself.
        close_think: the thought given is complete, so that the answer follows it.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.6
    seed: int = 0
    question: Question | None = None
    think: str | None = None
    close_think: bool = False

    def key(self) -> str:
        """128 bits of hex that tell this ask from every other of the same teacher."""
        content = [
            [[m.role, m.content] for m in self.messages],
            self.max_tokens,
            self.temperature,
            self.seed,
            self.think,
            self.close_think,
            None if self.question is None else self.question.id,
        ]
        return digest(content)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a teacher wrote; a thought that the ask gave it is not repeated.

    Attributes:
        think: its thought, tags left out; empty if it wrote none.
        answer_text: what follows the thought; empty if the thought never ended.
        ended: `stop` it came to its end, `length` it was cut off, `failed` there is no reply.
        failure: why there is none; a reason that a retry would not mend.
        prompt_tokens, completion_tokens: as the teacher's side counts them, for costs.
    """

    think: str
    answer_text: str
    ended: Ended = "stop"
    failure: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Teacher(Protocol):
    """Answers asks. Many may be under way at once; the teacher bounds what it really does."""

    async def reply(self, ask: TeacherRequest) -> Reply:
        """One reply; `ended="failed"` where this ask cannot be answered.

        Raises:
            InfrastructureError: the teacher itself is gone, and retries did not help.
            ConfigError: the teacher refuses to be used like this (wrong key, no such model).
        """
        ...

    def counters(self) -> Mapping[str, float]:
        """What it took so far: `asked`, `prompt_tokens`, `completion_tokens`, and its own."""
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """A model to be served by rollout workers of this project.

    Attributes:
        model: Hugging Face model directory or hub id.
        revision: of a hub id.
        workers, cpus, gpus, tensor_parallel: how many workers, and what each takes.
        max_len: longest prompt plus completion, tokens of that model.
        dtype: of its weights.
        think_open, think_close: its think tags.
        kv_cache_mb: per worker, on a CPU.
    """

    model: str
    revision: str = "main"
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    tensor_parallel: int = 1
    max_len: int = 32_768
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    think_open: str = "<think>"
    think_close: str = "</think>"
    kv_cache_mb: int = 128


def prompt_format(path: str, spec: EngineSpec) -> PromptFormat:
    """How a teacher reads prompts: its own template and tags, and no budgets.

    Args:
        path: where its tokenizer is: a directory, or a hub id of the local cache.
        spec: its revision and think tags.

    Raises:
        ConfigError: it has no tokenizer that will do.
    """
    config = StudentConfig(
        revision=spec.revision, think_open=spec.think_open, think_close=spec.think_close
    )
    try:
        return load_prompt_format(path, config, "sentence")
    except ConfigError as error:
        # Written for the student, whose fields it names.
        rule = error.rule.replace("the student's", "the teacher's")
        raise ConfigError("distill.teachers", spec.model, rule, error.fix) from error


class Host(Protocol):
    """What a backend may ask of the machinery around it."""

    @property
    def seed(self) -> int:
        """Seed of the run."""
        ...

    @property
    def replies(self) -> Path:
        """Directory where replies that were paid for are kept."""
        ...

    async def engines(self, spec: EngineSpec) -> tuple[Sampler, PromptFormat]:
        """Rollout workers that serve a model, and how that model reads prompts.

        They stop with the host. Raises ConfigError where no cluster is at hand.
        """
        ...


class Backend(Protocol):
    """A way to reach a teacher: a plug-in, whose fields are its parameters.

    One whose replies cost something wraps its teacher in `bard_ray.distill.reply_cache.Kept`, so
    that none is paid for twice.
    """

    async def open(self, name: str, host: Host) -> Teacher:
        """Bring the teacher up; `name` is what the configuration calls it.

        Raises:
            ConfigError: something it needs is missing, such as a key in the environment.
        """
        ...


TEACHERS: Registry[Backend] = Registry(
    "distill.teachers", "bard_ray.distill.teachers", method="open", key="backend"
)


def make_backends(teachers: Mapping[str, Any]) -> dict[str, Backend]:
    """The candidates of `distill.teachers`, by name, in the order of the configuration.

    Raises:
        ConfigError: an entry is no mapping, names no backend, or has parameters that do not fit.
    """
    return {name: _make_backend(name, entry) for name, entry in teachers.items()}


def _make_backend(name: str, entry: object) -> Backend:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("backend"), str):
        fix = "Write {NAME: {backend: openai, model: ...}}; docs/distillation.md has the backends."
        raise ConfigError(f"distill.teachers.{name}", entry, "names no backend", fix)
    params = {str(key): value for key, value in entry.items() if key != "backend"}
    try:
        return TEACHERS.build(entry["backend"], params)
    except ConfigError as error:  # an entry has no section `params` of its own
        here = f"distill.teachers.{name}"
        field = error.field.replace("distill.teachers.params", here)
        field = field.replace("distill.teachers.backend", f"{here}.backend")
        fix = error.fix.partition("; distill.teachers.params")[0].rstrip(".")
        raise ConfigError(field, error.value, error.rule, f"{fix}.") from error
