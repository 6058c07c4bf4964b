"""The rollout worker: group requests in, groups of rollouts out, over one vLLM engine.

A request becomes one engine request per rollout (`token_requests`); `PendingGroups` assembles the
outputs into groups; finished groups leave on one stream (`RolloutWorker.groups`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from actors.cluster.wire import Ticket, pack_groups
from actors.rollout.engine import TokenEngine, TokenOutput, TokenRequest
from actors.weights.flat_buffer import (
    FlatWeights,
    check_weights,
    checkpoint_shapes,
    read_checkpoint,
)
from bard_ray.config.schema import BudgetConfig, RolloutConfig, StudentConfig
from bard_ray.errors import WeightSyncError
from bard_ray.records import (
    Budget,
    Failure,
    FailureKind,
    Group,
    GroupRequest,
    Ints,
    Rollout,
    SamplingSpec,
    Segment,
    token_limit,
)
from bard_ray.rl.assemble import assemble, prompt_segment, with_think_prefix

if TYPE_CHECKING:
    from bard_ray.data.prompt import PromptFormat

# Rollout g of a group samples with seed * stride + g, so no two groups share a random stream.
SEED_STRIDE = 1_000_003
# Finished groups linger so that several leave in one item: `LINGER_S` at a time, at most
# `MAX_LINGERS` times. They are flushed once they reach `FLUSH_SHARE` of the groups in flight.
LINGER_S = 0.02  # about one engine step of the tiny recipe
MAX_LINGERS = 3
FLUSH_SHARE = 1 / 16

ABORTED = Failure(FailureKind.ABORTED, "its generation was aborted")

# Finished groups to be sent; an exception ends the stream, None ends the current reader.
FinishedQueue = asyncio.Queue[tuple[Ticket, Group] | Exception | None]

PromptParts = tuple[Segment, Ints]  # a prompt, and the think prefix that follows it


def make_engine(
    model_path: str, config: RolloutConfig, student: StudentConfig, seed: int
) -> TokenEngine:
    """The engine of `rollout.engine`; `auto` is in-process unless tensor parallelism is used."""
    if config.engine == "async" or (config.engine == "auto" and config.tensor_parallel > 1):
        from actors.rollout.vllm_async import AsyncEngine

        return AsyncEngine(model_path, config, student, seed)
    from actors.rollout.vllm_local import LocalEngine

    return LocalEngine(model_path, config, student, seed)


def token_requests(
    request: GroupRequest, spec: SamplingSpec, prompts: PromptFormat, max_len: int, name: str
) -> list[TokenRequest]:
    """One engine request per rollout; rollouts with the same budget share the prompt's ids.

    Args:
        request: the group to sample.
        spec: how to sample.
        prompts: chat template and tokenizer.
        max_len: tokens of prompt and completion at most.
        name: start of the requests' ids; no two groups in flight may share it.
    """
    prefix = request.prefix
    prefix_T = np.zeros(0, np.int32) if prefix is None else prompts.prefix_ids(prefix)

    def prompt_ids(budget: Budget) -> Ints:
        prompt_T = prompts.prompt_ids(request.question, budget, show_budget=spec.show_budget)
        return np.concatenate([prompt_T, prefix_T])

    ids = {budget: prompt_ids(budget) for budget in set(request.budgets)}
    return [
        TokenRequest(
            id=f"{name}/{index}",
            prompt_T=ids[budget],
            temperature=spec.temperature,
            max_new_tokens=min(spec.max_new_tokens, max_len - ids[budget].size),
            seed=(request.seed * SEED_STRIDE + index) % (1 << 63),
            force_at=token_limit(budget) if spec.force_budget else None,
            prefix_tokens=prefix_T.size,
        )
        for index, budget in enumerate(request.budgets)
    ]


def _prompt_parts(item: TokenRequest) -> PromptParts:
    cut = item.prompt_T.size - item.prefix_tokens
    return prompt_segment(item.prompt_T[:cut]), item.prompt_T[cut:]


class PendingGroups:
    """Groups of one submission whose rollouts are still being sampled."""

    def __init__(self, prompts: PromptFormat, spec: SamplingSpec) -> None:
        self._prompts, self._spec = prompts, spec
        self._places: dict[str, tuple[Ticket, GroupRequest, int, PromptParts]] = {}
        self._done: dict[Ticket, dict[int, Rollout]] = {}

    @property
    def incomplete(self) -> int:
        """Number of groups that still miss rollouts."""
        return len(self._done)

    def expect(self, ticket: Ticket, request: GroupRequest, items: Sequence[TokenRequest]) -> None:
        """Register the group that `items` sample; rollouts with equal prompts share a segment."""
        self._done[ticket] = {}
        parts = {id(item.prompt_T): _prompt_parts(item) for item in items}
        for index, item in enumerate(items):
            self._places[item.id] = (ticket, request, index, parts[id(item.prompt_T)])

    def add(self, output: TokenOutput) -> tuple[Ticket, Group] | None:
        """Add one output; returns its group if that is now complete, or failed as aborted."""
        ticket, request, index, parts = self._places.pop(output.id)
        rollouts = self._done.get(ticket)
        if rollouts is None:  # the group failed when another of its rollouts was aborted
            return None
        if output.finish == "abort":
            del self._done[ticket]
            return ticket, Group(request, failure=ABORTED)
        rollouts[index] = self._rollout(request.budgets[index], parts, output)
        if len(rollouts) < len(request.budgets):
            return None
        del self._done[ticket]
        return ticket, Group(request, tuple(rollouts[i] for i in range(len(rollouts))))

    def _rollout(self, budget: Budget, parts: PromptParts, output: TokenOutput) -> Rollout:
        forced_at = token_limit(budget) if self._spec.force_budget else None
        tags, decode = self._prompts.tags, self._prompts.decode
        prompt, prefix_T = parts
        completion = with_think_prefix(prefix_T, output) if prefix_T.size else output
        return assemble(prompt, completion, budget, tags, forced_at, decode)


class RolloutWorker:
    """Samples groups with one engine. A plain class that an actor hosts; all methods are async."""

    def __init__(
        self,
        model_path: str,
        config: RolloutConfig,
        student: StudentConfig,
        budget: BudgetConfig,
        seed: int,
    ) -> None:
        self._model_path, self._config, self._student, self._budget = (
            model_path,
            config,
            student,
            budget,
        )
        self._engine = make_engine(model_path, config, student, seed)
        self._shapes = checkpoint_shapes(model_path)
        self._version = 0
        self._submitted = self._in_flight = 0  # groups so far, groups being sampled now
        self._finished: FinishedQueue = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids: dict[int, list[str]] = {}  # engine requests of a group, by its number

    async def start(self) -> None:
        """Start the engine; ready to serve when this returns."""
        from bard_ray.data.prompt import load_prompt_format

        self._format: PromptFormat = load_prompt_format(
            self._model_path, self._student, self._budget.codec
        )
        await self._engine.start()

    async def submit(
        self, requests: Sequence[tuple[Ticket, GroupRequest]], spec: SamplingSpec
    ) -> None:
        """Start sampling requests; their groups come out of `groups`.

        All rollouts enter the engine before its next step.
        """
        pending = PendingGroups(self._format, spec)
        tokens: list[TokenRequest] = []
        for ticket, request in requests:
            items = token_requests(
                request, spec, self._format, self._student.max_len, self._new_name(ticket)
            )
            if min(item.max_new_tokens for item in items) < 1:
                detail = f"its prompt leaves no room in student.max_len={self._student.max_len}"
                failed = Group(request, failure=Failure(FailureKind.NO_ROOM, detail))
                self._finished.put_nowait((ticket, failed))
                continue
            self._ids[request.number] = [item.id for item in items]
            pending.expect(ticket, request, items)
            tokens += items
        if tokens:
            self._in_flight += pending.incomplete
            task = asyncio.create_task(self._generate(pending, tokens))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _new_name(self, ticket: Ticket) -> str:
        """A new start of engine request ids, unique in this worker."""
        self._submitted += 1
        return f"{self._submitted}/{ticket[1]}"

    async def _generate(self, pending: PendingGroups, tokens: list[TokenRequest]) -> None:
        try:
            async for outputs in self._engine.generate(tokens):
                for output in outputs:
                    done = pending.add(output)
                    if done is not None:
                        self._in_flight -= 1
                        self._ids.pop(done[1].number, None)
                        self._finished.put_nowait(done)
        except Exception as error:  # noqa: BLE001 raised where the groups are read
            self._finished.put_nowait(error)

    async def abort(self, numbers: Collection[int]) -> None:
        """Stop generating groups; those in flight come back failed, others are ignored."""
        await self._engine.abort([i for n in numbers for i in self._ids.get(n, ())])

    async def groups(self) -> AsyncIterator[bytes]:
        """Yield finished groups, packed by `actors.cluster.wire`, until the next call of `groups`.

        A new call takes over the groups that the previous reader has not read. While other groups
        are in flight, finished ones linger and leave together: each item takes the GIL away from
        the engine's thread.

        Raises:
            InfrastructureError: the engine is lost.
        """
        finished: FinishedQueue = asyncio.Queue()
        before, self._finished = self._finished, finished
        before.put_nowait(None)  # ends the previous reader
        while not before.empty():
            item = before.get_nowait()
            if item is not None:
                finished.put_nowait(item)
        while True:
            items = [await finished.get()]
            await self._linger(finished)
            while not finished.empty():
                items.append(finished.get_nowait())
            groups = [item for item in items if isinstance(item, tuple)]
            if groups:
                yield pack_groups(groups)
            for item in items:
                if isinstance(item, Exception):
                    raise item
            if None in items:
                return

    async def _linger(self, finished: FinishedQueue) -> None:
        """Wait until enough groups have finished to flush them, or until none is in flight."""
        for lingers in range(MAX_LINGERS):
            enough = 1 + finished.qsize() >= FLUSH_SHARE * self._in_flight
            if (lingers > 0 and enough) or not self._in_flight:
                return
            await asyncio.sleep(LINGER_S)

    async def update(self, weights: FlatWeights, version: int) -> tuple[int, float]:
        """Load weights that were published as `version`.

        The version is the idempotency key: a version that is loaded is not loaded again.

        Returns:
            The version now loaded, and the generation stall in seconds.

        Raises:
            WeightSyncError: the weights are not the model's, or a newer version is loaded.
        """
        check_weights(weights, self._shapes)
        if version < self._version:
            msg = f"version {version} was sent, but {self._version} is loaded already"
            raise WeightSyncError(msg)
        if version == self._version:
            return version, 0.0
        stall_s = await self._engine.update(weights, version)
        self._version = version
        return version, stall_s

    async def load(self, path: str, version: int) -> tuple[int, float]:
        """Load a Hugging Face model directory as `version`. Raises as `update` does."""
        weights = await asyncio.to_thread(read_checkpoint, path, self._config.dtype)
        return await self.update(weights, version)

    async def stats(self) -> dict[str, float]:
        """The engine's counters."""
        return await self._engine.stats()

    async def close(self) -> None:
        """Stop the engine."""
        await self._engine.close()
