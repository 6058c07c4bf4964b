"""vLLM's multi-process `AsyncLLM` behind the same interface.

The engine of a worker that spans several devices.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING, Any

from actors.rollout.engine import TokenOutput, TokenRequest
from actors.rollout.vllm_common import (
    engine_args,
    engine_prompt,
    read_output,
    sampling_params,
    warmup_requests,
)
from actors.weights.flat_buffer import FlatWeights, spill
from bard_ray.config.schema import RolloutConfig, StudentConfig
from bard_ray.errors import InfrastructureError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

POLL_S = 0.005  # between two looks at whether the workers have built the weights


class AsyncEngine:
    """A `TokenEngine` over one `AsyncLLM`.

    Requests are paused, not dropped, while weights are loaded.
    """

    def __init__(
        self, model_path: str, config: RolloutConfig, student: StudentConfig, seed: int
    ) -> None:
        self._args = (model_path, config, student, seed)
        self._version = 0
        self._tokens = self._running = 0
        self._busy_s, self._busy_since, self._started_s = 0.0, 0.0, 0.0
        self._updating = asyncio.Lock()
        self._serving: dict[str, asyncio.Task[TokenOutput]] = {}
        self._given_up: set[str] = set()
        self._in_background = False

    async def start(self) -> None:
        """Start the engine processes and warm them."""
        self._engine: AsyncLLM = await asyncio.to_thread(self._make_engine)
        await self._engine.update_weight_version(str(self._version))
        path, config, *_ = self._args
        init_info = {"path": path, "load": config.weight_load}
        await self._engine.collective_rpc(
            "init_weight_transfer_engine", kwargs={"init_info": init_info}
        )
        self._in_background = all(await self._engine.collective_rpc("weights_in_background"))
        async for _ in self.generate(warmup_requests()):
            pass
        self._tokens, self._busy_s, self._started_s = 0, 0.0, time.monotonic()

    def _make_engine(self) -> AsyncLLM:
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM.from_engine_args(engine_args(*self._args, async_engine=True))

    async def generate(
        self, requests: Sequence[TokenRequest]
    ) -> AsyncIterator[Sequence[TokenOutput]]:
        """Yield outputs as requests finish; leaving the iteration early aborts the rest."""
        tasks = {r.id: asyncio.create_task(self._one(r)) for r in requests}
        self._serving |= tasks
        try:
            for done in asyncio.as_completed(tasks.values()):
                yield [await done]
        finally:
            for name, task in tasks.items():
                task.cancel()
                del self._serving[name]

    async def abort(self, ids: Collection[str]) -> None:
        """End requests; canceling the wait for one makes vLLM drop it."""
        for name in ids:
            if name in self._serving and not self._serving[name].done():
                self._given_up.add(name)
                self._serving[name].cancel()

    async def _one(self, request: TokenRequest) -> TokenOutput:
        self._count(+1)
        try:
            prompt = engine_prompt(request, self._version)
            async for output in self._engine.generate(prompt, sampling_params(request), request.id):
                if output.finished:
                    read = read_output(output)
                    self._tokens += read.tokens_T.size
                    return read
        except asyncio.CancelledError:
            if request.id not in self._given_up:
                raise
            self._given_up.remove(request.id)
            return TokenOutput.aborted(request.id)
        except Exception as error:
            msg = f"engine: {error!r}"
            raise InfrastructureError(msg) from error
        finally:
            self._count(-1)
        msg = f"request {request.id} ended without an output"
        raise InfrastructureError(msg)

    def _count(self, change: int) -> None:
        """Keep the busy clock: it runs while at least one request does."""
        now = time.monotonic()
        if self._running:
            self._busy_s += now - self._busy_since
        self._running += change
        self._busy_since = now

    async def update(self, weights: FlatWeights, version: int) -> float:
        """Load weights under `version`; returns the seconds for which generation was paused.

        Where all workers build weights in the background, they generate meanwhile.

        Raises:
            InfrastructureError: the new weights could not be built and the engine continues with
                the old ones, or it stays paused and has to be replaced.
        """
        async with self._updating:
            info, file = await asyncio.to_thread(spill, weights)
            try:
                if self._in_background:
                    await self._prepare(info)
                return await self._load(info, version)
            except Exception as error:
                msg = f"weight update: {error!r}"
                raise InfrastructureError(msg) from error
            finally:
                file.unlink(missing_ok=True)

    async def _prepare(self, info: dict[str, Any]) -> None:
        """Have every worker build the weights beside the ones in use; wait until all have."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self._engine.start_weight_update()
        await self._engine.update_weights(WeightTransferUpdateRequest(update_info=info))
        # Other processes do the work; they can only be asked.
        while not all(await self._engine.collective_rpc("weights_prepared")):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        if any(await self._engine.collective_rpc("weights_failed")):
            await self._engine.collective_rpc("abandon_weight_update")
            msg = f"workers could not build the weights; version {self._version} stays in use"
            raise InfrastructureError(msg)

    async def _load(self, info: dict[str, Any], version: int) -> float:
        """Pause, put the weights in place, resume."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        _, config, *_ = self._args
        recompute = config.kv_after_update == "recompute"
        started = time.monotonic()
        await self._engine.pause_generation(mode="keep", clear_cache=recompute)
        if not self._in_background:
            await self._engine.start_weight_update()
            await self._engine.update_weights(WeightTransferUpdateRequest(update_info=info))
        await self._engine.finish_weight_update(weight_version=str(version))
        self._version = version
        # Reached only with complete weights: after a failed load the engine stays paused, and the
        # worker has to be replaced.
        await self._engine.resume_generation()
        return time.monotonic() - started

    async def stats(self) -> dict[str, float]:
        """Counters since `start`; engine steps are not visible from here."""
        self._count(0)
        return {
            "tokens": self._tokens,
            "steps": 0,
            "busy_s": self._busy_s,
            "up_s": time.monotonic() - self._started_s,
            "running": self._running,
        }

    async def close(self) -> None:
        """Stop the engine processes."""
        self._engine.shutdown()
