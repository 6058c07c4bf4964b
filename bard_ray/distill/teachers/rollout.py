"""Teachers that this project's own rollout workers serve."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from bard_ray.data.prompt import PromptFormat
from bard_ray.distill.reply_cache import CachedTeacher, reply_cache_path
from bard_ray.distill.teacher import (
    TEACHERS,
    EngineSpec,
    Host,
    Reply,
    ReplyFinish,
    TeacherRequest,
)
from bard_ray.errors import InfrastructureError
from bard_ray.plugins import require_within
from bard_ray.records import (
    NO_BUDGET,
    FailureKind,
    Group,
    GroupRequest,
    Ints,
    Question,
    Rollout,
    SamplingSpec,
    ThinkPrefix,
)
from bard_ray.roles import Sampler


class EngineTeacher:
    """A teacher behind a sampler; see `RolloutBackend`.

    Each request is one call of the sampler, which itself sends requests that arrive close together
    as one batch.
    """

    def __init__(self, name: str, sampler: Sampler, prompts: PromptFormat, in_flight: int) -> None:
        self._name, self._sampler, self._prompts = name, sampler, prompts
        self._slots = asyncio.Semaphore(in_flight)
        self._numbers = itertools.count()
        self._counts: Counter[str] = Counter()

    async def reply(self, request: TeacherRequest) -> Reply:
        """One reply, sampled with the request's seed; `failed` where the prompt leaves no room.

        Raises:
            InfrastructureError: the workers are lost or were stopped.
        """
        self._counts["requests"] += 1
        if not any(message.role == "user" for message in request.messages):
            return self._failed("it has no message of a user")
        prefix = None if request.think is None else ThinkPrefix(request.think, request.close_think)
        gold = request.question.answer if request.question else ""
        number = next(self._numbers)
        question = Question(f"{self._name}-{number}", request.messages, gold)
        group = GroupRequest(number, question, (NO_BUDGET,), request.seed, prefix)
        spec = SamplingSpec(request.temperature, request.max_tokens, show_budget=False)
        async with self._slots:
            (sampled,) = [found async for found in self._sampler.sample([group], spec)]
        return self._read(sampled)

    def _read(self, group: Group) -> Reply:
        if group.failure is not None and group.failure.kind is FailureKind.NO_ROOM:
            return self._failed(str(group.failure))
        if group.failure is not None:
            msg = f"teacher {self._name}: {group.failure}"
            raise InfrastructureError(msg)
        rollout = group.rollouts[0]
        prompt, prefix, written_T = _parts(rollout)
        self._counts.update(prompt_tokens=prompt + prefix, completion_tokens=written_T.size)
        self._counts["cut_off"] += rollout.finish != "stop"
        # After a closed think prefix nothing that was written is thinking.
        thinking_T = written_T[: max(0, rollout.thinking_tokens - prefix)]
        finish: ReplyFinish = "stop" if rollout.finish == "stop" else "length"
        return Reply(
            self._prompts.decode(thinking_T),
            rollout.answer_text,
            finish,
            prompt_tokens=prompt + prefix,
            completion_tokens=written_T.size,
        )

    def _failed(self, reason: str) -> Reply:
        self._counts["failed"] += 1
        return Reply("", "", "failed", failure=reason)

    def counters(self) -> Mapping[str, float]:
        """`requests`, `failed` and `cut_off` replies, `prompt_tokens`, `completion_tokens`."""
        names = ("requests", "failed", "cut_off", "prompt_tokens", "completion_tokens")
        return {name: self._counts[name] for name in names}

    async def close(self) -> None:
        """Nothing to release: the host stops the workers, which ends requests in flight."""


def _parts(rollout: Rollout) -> tuple[int, int, Ints]:
    """Tokens of the prompt, tokens of the think prefix, and the token ids that were written."""
    prompt, *rest = rollout.segments
    written = [s.tokens_T[s.versions_T >= 0] for s in rest]
    written_T = np.concatenate([*written, np.zeros(0, np.int32)])
    return prompt.tokens_T.size, rollout.completion_tokens - written_T.size, written_T


@TEACHERS.register("rollout")
@dataclass(frozen=True)
class RolloutBackend(EngineSpec):
    """A model that rollout workers of this project serve, beside those of the student.

    Its own chat template, tokenizer and think tags are used. Sampling is by temperature only: the
    model's recommended top_p and top_k are not applied. Source: ours.

    Attributes:
        in_flight: requests at the workers at a time; the other fields are those of `EngineSpec`.
    """

    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = (
        "workers",
        "cpus",
        "gpus",
        "tensor_parallel",
        "kv_cache_mb",
        "in_flight",
    )

    in_flight: int = 256

    def __post_init__(self) -> None:
        for name in ("workers", "tensor_parallel", "max_len", "kv_cache_mb", "in_flight"):
            require_within(name, getattr(self, name), 1)
        require_within("cpus", self.cpus, 0, open_low=True)
        require_within("gpus", self.gpus, 0)
        if self.tensor_parallel > max(self.gpus, 1):
            msg = f"gpus must be {self.tensor_parallel} or more, as tensor_parallel is"
            raise ValueError(msg)
        if self.dtype not in {"float32", "bfloat16"}:
            msg = f"dtype must be float32 or bfloat16, not {self.dtype}"
            raise ValueError(msg)

    @property
    def spec(self) -> EngineSpec:
        """The model and workers requested from the host."""
        return EngineSpec(**{field.name: getattr(self, field.name) for field in fields(EngineSpec)})

    async def open(self, name: str, host: Host) -> CachedTeacher:
        """Have the host serve the model; returns when it is ready. Replies are cached.

        Raises:
            ConfigError: the model is not on this machine, or its tokenizer cannot be used.
            ResourceError: the cluster is too small for its workers.
        """
        sampler, prompts = await host.engines(self.spec)
        teacher = EngineTeacher(name, sampler, prompts, self.in_flight)
        return CachedTeacher(teacher, reply_cache_path(host, self))
