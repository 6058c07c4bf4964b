"""`TokenEngine` over vLLM's multi-process `AsyncLLM`, for workers that span several devices."""

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

POLL_S = 0.005  # interval at which engine processes are polled for prepared weights


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
        self._aborted: set[str] = set()
        self._in_background = False

    async def start(self) -> None:
        """Start the engine processes and warm them up."""
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
        """Yield outputs as requests finish; closing the iterator early aborts the rest."""
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
        """Abort requests: vLLM drops a request when the task that awaits it is canceled."""
        for name in ids:
            if name in self._serving and not self._serving[name].done():
                self._aborted.add(name)
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
            if request.id not in self._aborted:
                raise
            self._aborted.remove(request.id)
            return TokenOutput.aborted(request.id)
        except Exception as error:
            msg = f"engine: {error!r}"
            raise InfrastructureError(msg) from error
        finally:
            self._count(-1)
        msg = f"request {request.id} ended without an output"
        raise InfrastructureError(msg)

    def _count(self, change: int) -> None:
        """Update the number of running requests, and the time in which at least one ran."""
        now = time.monotonic()
        if self._running:
            self._busy_s += now - self._busy_since
        self._running += change
        self._busy_since = now

    async def update(self, weights: FlatWeights, version: int) -> float:
        """Load weights under `version`; returns the seconds for which generation was paused.

        Where all engine processes prepare weights in the background, generation continues during
        that.

        Raises:
            InfrastructureError: the new weights could not be prepared and the engine continues with
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
        """Have every engine process build the weights beside the ones in use; wait for all."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self._engine.start_weight_update()
        await self._engine.update_weights(WeightTransferUpdateRequest(update_info=info))
        # The engine processes cannot notify this one, so they are polled.
        while not all(await self._engine.collective_rpc("weights_prepared")):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        if any(await self._engine.collective_rpc("weights_failed")):
            await self._engine.collective_rpc("abandon_weight_update")
            msg = f"new weights could not be prepared; version {self._version} stays in use"
            raise InfrastructureError(msg)

    async def _load(self, info: dict[str, Any], version: int) -> float:
        """Pause generation, put the weights in place, resume."""
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
