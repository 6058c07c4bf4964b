"""Teachers: models that write chains and models that rewrite them, behind one Protocol.

A configuration names candidates under `distill.teachers`: `{r1: {backend: openai, model: ...}}`. A
backend is a file of `bard_ray.distill.teachers` with one frozen dataclass, or the user's own as
`module:Class`; the teacher that it opens answers single requests, many of them concurrently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bard_ray.config.schema import DistillConfig, StudentConfig
from bard_ray.data.prompt import PromptFormat, load_prompt_format
from bard_ray.distill.identity import digest
from bard_ray.errors import ConfigError
from bard_ray.plugins import Registry
from bard_ray.records import Message, Question
from bard_ray.roles import Sampler

ReplyFinish = Literal["stop", "length", "failed"]


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One text requested from a teacher.

    Attributes:
        messages: the conversation so far; the teacher writes the next turn.
        max_tokens: of that turn, thinking included, in tokens of the teacher.
        temperature: 0 is greedy.
        seed: the same request with another seed is another sample.
        question: what the messages are made from; the exact teacher of the synthetic task reads it.
        think: a think prefix that the turn continues from. None: the teacher thinks from the start.
        close_think: the think prefix is complete; only the answer is sampled.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.6
    seed: int = 0
    question: Question | None = None
    think: str | None = None
    close_think: bool = False

    def key(self) -> str:
        """128 bits of hex, different for all requests to one teacher."""
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
    """What a teacher wrote; the request's think prefix is not repeated.

    Attributes:
        think: its thinking without the tags; empty if there is none.
        answer_text: what follows the thinking; empty if the thinking did not end.
        finish: `stop`: complete; `length`: cut off at `max_tokens`; `failed`: there is no reply.
        failure: why there is none; a reason that a retry would not change.
        prompt_tokens, completion_tokens: as the teacher's side counts them, for costs.
    """

    think: str
    answer_text: str
    finish: ReplyFinish = "stop"
    failure: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Teacher(Protocol):
    """Answers requests. Many may be in flight; the teacher limits its own concurrency."""

    async def reply(self, request: TeacherRequest) -> Reply:
        """One reply; `finish="failed"` where this request cannot be answered.

        Raises:
            InfrastructureError: the teacher is not reachable, and retries did not help.
            ConfigError: the teacher refuses its settings (wrong key, unknown model).
        """
        ...

    def counters(self) -> Mapping[str, float]:
        """`requests`, `prompt_tokens`, `completion_tokens` so far, and figures of its own."""
        ...

    async def close(self) -> None:
        """Release what the teacher holds."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """A model to be served by rollout workers of this project.

    Attributes:
        model: Hugging Face model directory or hub id.
        revision: of a hub id.
        workers: number of workers.
        cpus: of one worker, as Ray counts them.
        gpus: of one worker.
        tensor_parallel: devices that share the weights of one worker.
        max_len: longest prompt plus completion, tokens of that model.
        dtype: of its weights.
        think_open: its opening think tag.
        think_close: its closing one, a single token.
        kv_cache_mb: of one worker, on a CPU.
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
    """Prompt format of a teacher: its own template and tags, no budgets.

    Args:
        path: of its tokenizer: a directory, or a hub id in the local cache.
        spec: its revision and think tags.

    Raises:
        ConfigError: the tokenizer cannot be used.
    """
    config = StudentConfig(
        revision=spec.revision, think_open=spec.think_open, think_close=spec.think_close
    )
    try:
        return load_prompt_format(path, config, "sentence")
    except ConfigError as error:
        # The message is written for the student and names its fields.
        rule = error.rule.replace("the student's", "the teacher's")
        raise ConfigError("distill.teachers", spec.model, rule, error.fix) from error


class Host(Protocol):
    """What a backend may ask of the run."""

    @property
    def seed(self) -> int:
        """Seed of the run."""
        ...

    @property
    def replies(self) -> Path:
        """Directory of the reply caches."""
        ...

    async def engines(self, spec: EngineSpec) -> tuple[Sampler, PromptFormat]:
        """Rollout workers that serve a model, and that model's prompt format.

        They stop with the host. Raises ConfigError where there is no cluster.
        """
        ...


class Backend(Protocol):
    """A way to reach a teacher: a plug-in, whose fields are its parameters.

    A backend whose replies are expensive wraps its teacher in
    `bard_ray.distill.reply_cache.CachedTeacher`, so that no reply is requested twice. A backend
    that has rollout workers serve its model has an attribute `spec`, an `EngineSpec`, which the
    placement plan counts.
    """

    async def open(self, name: str, host: Host) -> Teacher:
        """Open the teacher; `name` is its name in the configuration.

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


def candidates(distill: DistillConfig) -> list[str]:
    """Teachers to choose from; the compressor's writer only if it is listed or the only one."""
    if distill.teacher:
        return [distill.teacher]
    names = distill.smoke.candidates or list(distill.teachers)
    others = [name for name in names if name != distill.compressor.writer]
    return names if distill.smoke.candidates else others or names


def served_models(backends: Mapping[str, Backend]) -> dict[str, EngineSpec]:
    """Models of the teachers that rollout workers of this project serve, by the teachers' names."""
    specs = {name: getattr(backend, "spec", None) for name, backend in backends.items()}
    return {name: spec for name, spec in specs.items() if isinstance(spec, EngineSpec)}


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
