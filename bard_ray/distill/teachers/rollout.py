"""Teachers that this project's own rollout workers serve."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from bard_ray.data.prompt import PromptFormat
from bard_ray.distill.reply_cache import CachedTeacher, reply_cache_path
from bard_ray.distill.teacher import TEACHERS, Ended, EngineSpec, Host, Reply, TeacherRequest
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

GATHER_S = 0.005  # how long an ask waits for others to travel with

Waiting = tuple[GroupRequest, SamplingSpec, asyncio.Future[Group]]


class Collector:
    """Single requests on their way to a sampler, which serves many at a time better than one.

    A request waits `gather_s` for others; those that are sampled alike go out in one call. At most
    `in_flight` are out, further ones wait for a place. What a call raises, all of its requests
    raise.
    """

    def __init__(self, sampler: Sampler, in_flight: int, gather_s: float = GATHER_S) -> None:
        self._sampler, self._gather_s = sampler, gather_s
        self._places = asyncio.Semaphore(in_flight)
        self._waiting: list[Waiting] = []
        self._gathering: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def sample(self, request: GroupRequest, spec: SamplingSpec) -> Group:
        """The group of a request, whose number no other one here may have.

        Raises:
            InfrastructureError: the sampler is lost, or this collector was closed.
        """
        async with self._places:
            group: asyncio.Future[Group] = asyncio.get_running_loop().create_future()
            self._waiting.append((request, spec, group))
            if self._gathering is None or self._gathering.done():
                self._gathering = asyncio.create_task(self._send_soon())
            return await group

    async def _send_soon(self) -> None:
        await asyncio.sleep(self._gather_s)
        calls: dict[SamplingSpec, list[Waiting]] = {}
        for item in self._waiting:
            calls.setdefault(item[1], []).append(item)
        self._waiting = []
        for spec, items in calls.items():
            task = asyncio.create_task(self._call(items, spec))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _call(self, items: list[Waiting], spec: SamplingSpec) -> None:
        """One call of the sampler; whoever waits gets a group or an error, whatever happens."""
        missing = {request.number: group for request, _, group in items if not group.done()}
        error: BaseException = InfrastructureError("the sampler ended without all of its groups")
        try:
            async for group in self._sampler.sample(
                [request for request, _, _ in items if request.number in missing], spec
            ):
                future = missing.pop(group.number)
                if not future.done():
                    future.set_result(group)
        except asyncio.CancelledError:
            error = InfrastructureError("the teacher was closed")
        except Exception as raised:  # noqa: BLE001 raised where the groups are waited for
            error = raised
        for future in missing.values():
            if not future.done():
                future.set_exception(error)

    async def close(self) -> None:
        """End what is under way; whoever waits for it is told."""
        tasks = [*self._calls, *([self._gathering] if self._gathering else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, _, group in self._waiting:
            if not group.done():
                group.set_exception(InfrastructureError("the teacher was closed"))
        self._waiting = []


class EngineTeacher:
    """A teacher behind a sampler; see `RolloutBackend`."""

    def __init__(self, name: str, sampler: Sampler, prompts: PromptFormat, in_flight: int) -> None:
        self._name, self._prompts = name, prompts
        self._collector = Collector(sampler, in_flight)
        self._numbers = itertools.count()
        self._counts: Counter[str] = Counter()

    async def reply(self, ask: TeacherRequest) -> Reply:
        """One reply, sampled by the ask's own seed; `failed` where the prompt leaves no room."""
        self._counts["asked"] += 1
        if not any(message.role == "user" for message in ask.messages):
            return self._failed("its messages hold none of a user")
        prefix = None if ask.think is None else ThinkPrefix(ask.think, ask.close_think)
        gold = ask.question.answer if ask.question else ""
        number = next(self._numbers)
        question = Question(f"{self._name}-{number}", ask.messages, gold)
        request = GroupRequest(number, question, (NO_BUDGET,), ask.seed, prefix)
        spec = SamplingSpec(ask.temperature, ask.max_tokens, show_budget=False)
        return self._read(await self._collector.sample(request, spec))

    def _read(self, group: Group) -> Reply:
        if group.failure is not None and group.failure.kind is FailureKind.NO_ROOM:
            return self._failed(str(group.failure))
        if group.failure is not None:
            msg = f"teacher {self._name}: {group.failure}"
            raise InfrastructureError(msg)
        rollout = group.rollouts[0]
        prompt, given, written_T = _parts(rollout)
        self._counts.update(prompt_tokens=prompt + given, completion_tokens=written_T.size)
        self._counts["cut_off"] += rollout.finish != "stop"
        # Behind a closed thought nothing of what was written is thinking.
        thought_T = written_T[: max(0, rollout.thinking_tokens - given)]
        ended: Ended = "stop" if rollout.finish == "stop" else "length"
        think = self._prompts.decode(thought_T)
        return Reply(
            think,
            rollout.answer_text,
            ended,
            prompt_tokens=prompt + given,
            completion_tokens=written_T.size,
        )

    def _failed(self, reason: str) -> Reply:
        self._counts["failed"] += 1
        return Reply("", "", "failed", failure=reason)

    def counters(self) -> Mapping[str, float]:
        """`asked`, `failed`, `cut_off` (replies), `prompt_tokens`, `completion_tokens`."""
        names = ("asked", "failed", "cut_off", "prompt_tokens", "completion_tokens")
        return {name: self._counts[name] for name in names}

    async def close(self) -> None:
        """Give up what is under way; the workers stop with their host."""
        await self._collector.close()


def _parts(rollout: Rollout) -> tuple[int, int, Ints]:
    """Tokens of the prompt, tokens of the given thought, and the token ids that were written."""
    prompt, *rest = rollout.segments
    written = [s.tokens_T[s.versions_T >= 0] for s in rest]
    written_T = np.concatenate([*written, np.zeros(0, np.int32)])
    return prompt.tokens_T.size, rollout.completion_tokens - written_T.size, written_T


@TEACHERS.register("rollout")
@dataclass(frozen=True)
class RolloutBackend:
    """A model that rollout workers of this project serve, beside those of the student.

    Its own chat template, tokenizer and think tags are used. Sampling is by temperature only, so
    top_p and top_k are not the model's recommended ones. Source: ours.

    Attributes:
        model: Hugging Face model directory or hub id.
        revision: of a hub id.
        workers: how many serve it.
        cpus: of one worker, in Ray's count.
        gpus: of one worker.
        tensor_parallel: devices that the weights of one worker are spread over.
        max_len: longest prompt plus completion, tokens of that model.
        dtype: of its weights, float32 or bfloat16.
        think_open: its opening think tag.
        think_close: its closing one, a single token.
        kv_cache_mb: of one worker, on a CPU.
        in_flight: asks that are with the workers at a time.
    """

    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = (
        "workers",
        "cpus",
        "gpus",
        "tensor_parallel",
        "kv_cache_mb",
        "in_flight",
    )

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
        """What its host is asked for."""
        return EngineSpec(
            self.model,
            self.revision,
            self.workers,
            self.cpus,
            self.gpus,
            self.tensor_parallel,
            self.max_len,
            self.dtype,
            self.think_open,
            self.think_close,
            self.kv_cache_mb,
        )

    async def open(self, name: str, host: Host) -> CachedTeacher:
        """Have the host serve the model; returns when it does. Replies are kept.

        Raises:
            ConfigError: the model is not on this machine, or has no tokenizer that will do.
            ResourceError: the cluster has too little room for its workers.
        """
        sampler, prompts = await host.engines(self.spec)
        teacher = EngineTeacher(name, sampler, prompts, self.in_flight)
        return CachedTeacher(teacher, reply_cache_path(host, self))
