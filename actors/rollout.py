"""The rollout worker: prompts in, groups of segments out, over one vLLM engine."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING

from actors.engine import FlatWeights, TokenEngine, TokenOutput, TokenRequest
from actors.weights import check_weights, checkpoint_shapes, read_checkpoint
from bard_ray.budget.signal import token_limit
from bard_ray.config.schema import BudgetConfig, RolloutConfig, StudentConfig
from bard_ray.errors import WeightSyncError
from bard_ray.records import Group, GroupRequest, Rollout, SamplingSpec, Segment
from bard_ray.rl.assemble import assemble, prompt_segment

if TYPE_CHECKING:
    from bard_ray.data.prompt import PromptFormat

# Rollout g of a group samples with seed * stride + g, so no two groups share a stream.
SEED_STRIDE = 1_000_003


def make_engine(
    model_path: str, config: RolloutConfig, student: StudentConfig, seed: int
) -> TokenEngine:
    """The engine the configuration asks for.

    `auto` takes the in-process one unless tensor parallelism needs more.
    """
    if config.engine == "async" or (config.engine == "auto" and config.tensor_parallel > 1):
        from actors.engine_async import AsyncEngine

        return AsyncEngine(model_path, config, student, seed)
    from actors.engine_local import LocalEngine

    return LocalEngine(model_path, config, student, seed)


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
        self._calls = 0
        self._running: dict[int, list[str]] = {}  # ids of a group's rollouts, by its number

    async def start(self) -> None:
        """Bring the engine up; ready to serve when this returns."""
        from bard_ray.data.prompt import load_prompt_format

        self._format: PromptFormat = load_prompt_format(
            self._model_path, self._student, self._budget.codec
        )
        await self._engine.start()

    async def generate(
        self, requests: Sequence[GroupRequest], spec: SamplingSpec
    ) -> AsyncIterator[Group]:
        """Yield each group as its last rollout finishes.

        All rollouts enter the engine before its next step.
        """
        self._calls += 1
        prompts: dict[str, tuple[GroupRequest, int, Segment]] = {}
        tokens = []
        for request in requests:
            items = self._token_requests(request, spec)
            if min(item.max_new_tokens for item in items) < 1:
                room = f"student.max_len={self._student.max_len}"
                yield Group(request, failure=f"its prompt leaves no room in {room}")
                continue
            self._running[request.number] = [item.id for item in items]
            for index, item in enumerate(items):
                prompts[item.id] = (request, index, prompt_segment(item.prompt_T))
                tokens.append(item)
        done: dict[int, dict[int, Rollout]] = defaultdict(dict)
        async for output in self._engine.generate(tokens):
            request, index, prompt = prompts.pop(output.id)
            if output.finish == "abort":
                if self._running.pop(request.number, None):  # its first rollout to be ended
                    yield Group(request, failure="its generation was ended early")
                continue
            rollouts = done[request.number]
            rollouts[index] = self._rollout(request, index, prompt, output, spec)
            if len(rollouts) == len(request.budgets):
                yield Group(request, tuple(rollouts[i] for i in range(len(rollouts))))
                del done[request.number], self._running[request.number]

    async def abort(self, numbers: Collection[int]) -> None:
        """Stop generating groups; those still running are yielded as failed, others are ignored."""
        await self._engine.abort([i for n in numbers for i in self._running.get(n, ())])

    def _token_requests(self, request: GroupRequest, spec: SamplingSpec) -> list[TokenRequest]:
        """One token request a rollout; rollouts with the same budget share the prompt's ids."""
        prompts = {
            b: self._format.prompt_ids(request.question, b, show_budget=spec.show_budget)
            for b in set(request.budgets)
        }
        return [
            TokenRequest(
                id=f"{self._calls}/{request.number}/{index}",
                prompt_T=prompts[budget],
                temperature=spec.temperature,
                max_new_tokens=min(
                    spec.max_new_tokens, self._student.max_len - prompts[budget].size
                ),
                seed=(request.seed * SEED_STRIDE + index) % (1 << 63),
                force_at=token_limit(budget) if spec.force_budget else None,
            )
            for index, budget in enumerate(request.budgets)
        ]

    def _rollout(
        self,
        request: GroupRequest,
        index: int,
        prompt: Segment,
        output: TokenOutput,
        spec: SamplingSpec,
    ) -> Rollout:
        budget = request.budgets[index]
        forced_at = token_limit(budget) if spec.force_budget else None
        tags, decode = self._format.tags, self._format.decode
        return assemble(prompt, output, budget, tags, forced_at, decode)

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
