"""The rollout worker: prompts in, groups of segments out, over one vLLM engine."""

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
from bard_ray.rl.assemble import assemble, given_thought, prompt_segment

if TYPE_CHECKING:
    from bard_ray.data.prompt import PromptFormat

# Rollout g of a group samples with seed * stride + g, so no two groups share a stream.
SEED_STRIDE = 1_000_003
# Finished groups wait for others to travel with, `HOLD_S` at a time, at most `MAX_HOLDS` times, and
# no longer than until they are one in `COMPANY` of those under way.
HOLD_S = 0.02  # about one engine step of the tiny recipe
MAX_HOLDS = 3
COMPANY = 16

ENDED_EARLY = Failure(FailureKind.ABORTED, "its generation was ended early")

# Finished groups on their way out; an error ends the stream, None the reader.
Finished = asyncio.Queue[tuple[Ticket, Group] | Exception | None]

Head = tuple[Segment, Ints]  # a prompt, and the given thought behind it


def make_engine(
    model_path: str, config: RolloutConfig, student: StudentConfig, seed: int
) -> TokenEngine:
    """The engine the configuration asks for.

    `auto` takes the in-process one unless tensor parallelism needs more.
    """
    if config.engine == "async" or (config.engine == "auto" and config.tensor_parallel > 1):
        from actors.rollout.vllm_async import AsyncEngine

        return AsyncEngine(model_path, config, student, seed)
    from actors.rollout.vllm_local import LocalEngine

    return LocalEngine(model_path, config, student, seed)


def token_requests(
    request: GroupRequest, spec: SamplingSpec, prompts: PromptFormat, max_len: int, name: str
) -> list[TokenRequest]:
    """One engine request a rollout; rollouts with the same budget share the prompt's ids.

    Their ids begin with `name`, which no two live requests may share.
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
            given=prefix_T.size,
        )
        for index, budget in enumerate(request.budgets)
    ]


def _head(item: TokenRequest) -> Head:
    cut = item.prompt_T.size - item.given
    return prompt_segment(item.prompt_T[:cut]), item.prompt_T[cut:]


class PendingGroups:
    """Groups of one submission whose rollouts are still being sampled."""

    def __init__(self, prompts: PromptFormat, spec: SamplingSpec) -> None:
        self._prompts, self._spec = prompts, spec
        self._places: dict[str, tuple[Ticket, GroupRequest, int, Head]] = {}
        self._done: dict[Ticket, dict[int, Rollout]] = {}

    @property
    def open(self) -> int:
        """Groups that are not complete."""
        return len(self._done)

    def expect(self, ticket: Ticket, request: GroupRequest, items: Sequence[TokenRequest]) -> None:
        """Note where the outputs of `items` belong; equal prompts share one segment."""
        self._done[ticket] = {}
        heads = {id(item.prompt_T): _head(item) for item in items}
        for index, item in enumerate(items):
            self._places[item.id] = (ticket, request, index, heads[id(item.prompt_T)])

    def add(self, output: TokenOutput) -> tuple[Ticket, Group] | None:
        """File one output; returns its group if that is now complete, or has been ended early."""
        ticket, request, index, head = self._places.pop(output.id)
        rollouts = self._done.get(ticket)
        if rollouts is None:  # ended early, with another of its rollouts
            return None
        if output.finish == "abort":
            del self._done[ticket]
            return ticket, Group(request, failure=ENDED_EARLY)
        rollouts[index] = self._rollout(request.budgets[index], head, output)
        if len(rollouts) < len(request.budgets):
            return None
        del self._done[ticket]
        return ticket, Group(request, tuple(rollouts[i] for i in range(len(rollouts))))

    def _rollout(self, budget: Budget, head: Head, output: TokenOutput) -> Rollout:
        forced_at = token_limit(budget) if self._spec.force_budget else None
        tags, decode = self._prompts.tags, self._prompts.decode
        prompt, prefix_T = head
        completion = given_thought(prefix_T, output) if prefix_T.size else output
        return assemble(prompt, completion, budget, tags, forced_at, decode)


class RolloutWorker:
    """One engine and what it needs to speak in records. An actor hosts it.

    All methods are async.
    """

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
        self._submitted = self._open = 0  # requests so far, groups under way
        self._finished: Finished = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids: dict[int, list[str]] = {}  # engine requests of a group, by its number

    async def start(self) -> None:
        """Bring the engine up; ready to serve when this returns."""
        from bard_ray.data.prompt import load_prompt_format

        self._format: PromptFormat = load_prompt_format(
            self._model_path, self._student, self._budget.codec
        )
        await self._engine.start()

    async def submit(
        self, requests: Sequence[tuple[Ticket, GroupRequest]], spec: SamplingSpec
    ) -> None:
        """Take requests on; their groups come out of `groups`.

        All rollouts enter the engine before its next step.
        """
        filling = PendingGroups(self._format, spec)
        tokens: list[TokenRequest] = []
        for ticket, request in requests:
            items = token_requests(
                request, spec, self._format, self._student.max_len, self._name(ticket)
            )
            if min(item.max_new_tokens for item in items) < 1:
                detail = f"its prompt leaves no room in student.max_len={self._student.max_len}"
                failed = Group(request, failure=Failure(FailureKind.NO_ROOM, detail))
                self._finished.put_nowait((ticket, failed))
                continue
            self._ids[request.number] = [item.id for item in items]
            filling.expect(ticket, request, items)
            tokens += items
        if tokens:
            self._open += filling.open
            task = asyncio.create_task(self._fill(filling, tokens))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _name(self, ticket: Ticket) -> str:
        """Start of engine request ids; no two submissions share one."""
        self._submitted += 1
        return f"{self._submitted}/{ticket[1]}"

    async def _fill(self, filling: PendingGroups, tokens: list[TokenRequest]) -> None:
        try:
            async for outputs in self._engine.generate(tokens):
                for output in outputs:
                    full = filling.add(output)
                    if full is not None:
                        self._open -= 1
                        self._ids.pop(full[1].number, None)
                        self._finished.put_nowait(full)
        except Exception as error:  # noqa: BLE001 raised where the groups are read
            self._finished.put_nowait(error)

    async def abort(self, numbers: Collection[int]) -> None:
        """Stop generating groups; those still running come back failed, others are ignored."""
        await self._engine.abort([i for n in numbers for i in self._ids.get(n, ())])

    async def groups(self) -> AsyncIterator[bytes]:
        """Yield finished groups, packed by `actors.cluster.wire`, until somebody else reads them.

        While others are under way, groups wait for the next ones: each item costs the engine's
        thread the interpreter lock.

        Raises:
            InfrastructureError: the engine is lost.
        """
        finished: Finished = asyncio.Queue()
        before, self._finished = self._finished, finished
        before.put_nowait(None)  # ends who reads that one
        while not before.empty():
            item = before.get_nowait()
            if item is not None:
                finished.put_nowait(item)
        while True:
            items = [await finished.get()]
            await self._hold(finished)
            while not finished.empty():
                items.append(finished.get_nowait())
            full = [item for item in items if isinstance(item, tuple)]
            if full:
                yield pack_groups(full)
            for item in items:
                if isinstance(item, Exception):
                    raise item
            if None in items:
                return

    async def _hold(self, finished: Finished) -> None:
        """Wait for company for one group, as long as there is any to wait for."""
        for held in range(MAX_HOLDS):
            enough = held > 0 and COMPANY * (1 + finished.qsize()) >= self._open
            if enough or not self._open:
                return
            await asyncio.sleep(HOLD_S)

    async def update(self, weights: FlatWeights, version: int) -> tuple[int, float]:
        """Load weights that were published as `version`.

        The version is the idempotency key: one that is loaded already is not loaded again.

        Returns:
            The version now loaded, and for how many seconds generation stalled.

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
