"""`TokenEngine` over one in-process vLLM `LLMEngine`, for workers that own one device.

A dedicated thread steps the engine. Compared with the multi-process engine it starts in a third of
the time, takes half the memory, and generates 1.5 times as many tokens per second on a CPU
(measured).
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from actors.rollout.engine import TokenOutput, TokenRequest
from actors.rollout.vllm_common import (
    engine_args,
    engine_prompt,
    read_output,
    sampling_params,
    warmup_requests,
)
from actors.weights.flat_buffer import FlatWeights
from bard_ray.config.schema import RolloutConfig, StudentConfig
from bard_ray.errors import InfrastructureError

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine

OutputQueue = asyncio.Queue[list[TokenOutput] | InfrastructureError]  # one per `generate` call


class LocalEngine:
    """A `TokenEngine` over one `LLMEngine`.

    The stepping thread owns the engine. All other access is a command in `_inbox`, which the thread
    runs between two steps. This makes a weight update atomic: no step sees half of the new weights.
    """

    def __init__(
        self, model_path: str, config: RolloutConfig, student: StudentConfig, seed: int
    ) -> None:
        self._args = (model_path, config, student, seed)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting: dict[str, OutputQueue] = {}  # request id to the queue of its caller
        self._version = 0
        self._closing = False
        self._in_background = False
        self._updating = asyncio.Lock()
        self._tokens = self._steps = 0
        self._busy_s = 0.0
        self._thread = threading.Thread(target=self._run, name="llm-engine", daemon=True)
        self._started_s = 0.0

    async def start(self) -> None:
        """Start the engine in its thread and warm it up."""
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._thread.start()
        await self._started
        async for _ in self.generate(warmup_requests()):
            pass
        self._tokens, self._steps, self._busy_s, self._started_s = 0, 0, 0.0, time.monotonic()

    async def generate(
        self, requests: Sequence[TokenRequest]
    ) -> AsyncIterator[Sequence[TokenOutput]]:
        """Yield outputs as requests finish; closing the iterator early aborts the rest."""
        out: OutputQueue = asyncio.Queue()
        missing = {r.id for r in requests}
        try:
            await self._call(lambda: self._add(requests, out))
            while missing:
                outputs = _drained(await out.get(), out)
                missing.difference_update(o.id for o in outputs)
                yield outputs
        finally:
            if missing and not self._closing:
                await self._call(lambda: self._drop(missing))

    async def abort(self, ids: Collection[str]) -> None:
        """Abort requests between two steps."""
        await self._call(lambda: self._abort(ids))

    async def update(self, weights: FlatWeights, version: int) -> float:
        """Load weights under `version`; returns the seconds in which no step could run.

        Where the transfer engine prepares weights in the background, steps continue with the old
        ones until the new ones are ready; otherwise the whole load is one command.

        Raises:
            InfrastructureError: the new weights could not be prepared and the engine continues with
                the old ones, or the engine is lost and all requests in flight fail.
        """
        async with self._updating:
            if not self._in_background:
                return await self._call(lambda: self._load_in_place(weights, version))
            prepared = asyncio.Event()
            begin_s = await self._call(lambda: self._begin(weights, prepared))
            await prepared.wait()
            return begin_s + await self._call(lambda: self._finish(version))

    async def stats(self) -> dict[str, float]:
        """Counters since `start`; busy seconds are those spent in steps or in adding requests."""
        return {
            "tokens": self._tokens,
            "steps": self._steps,
            "busy_s": self._busy_s,
            "up_s": time.monotonic() - self._started_s,
            "running": len(self._waiting),
        }

    async def close(self) -> None:
        """Stop the thread; requests in flight are dropped."""
        self._closing = True
        self._inbox.put(lambda: None)
        await asyncio.to_thread(self._thread.join, 30.0)

    async def _call(self, command: Callable[[], Any]) -> Any:
        """Run a command on the engine thread and return its result."""
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return  # the caller was canceled
            try:
                self._require_open()
                future.set_result(command())
            except Exception as error:  # noqa: BLE001 raised again in the caller's thread
                future.set_exception(error)

        self._require_open()
        self._inbox.put(run)
        return await asyncio.wrap_future(future)

    def _require_open(self) -> None:
        if self._closing or not self._thread.is_alive():
            msg = "the engine has ended; see the worker's log"
            raise InfrastructureError(msg)

    # --- engine thread
    # -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Start the engine, then alternate between commands and steps until closed.

        Waits for a command while no request is in flight; otherwise runs the queued commands only.
        """
        try:
            self._engine = self._make_engine()
        except Exception as error:  # noqa: BLE001 raised again in `start`
            self._loop.call_soon_threadsafe(
                self._started.set_exception, InfrastructureError(f"engine start: {error!r}")
            )
            return
        self._loop.call_soon_threadsafe(self._started.set_result, None)
        while not self._closing:
            self._drain(wait=not self._engine.has_unfinished_requests())
            if self._engine.has_unfinished_requests() and not self._closing:
                self._step()
        self._drain(wait=False)  # commands still queued fail: the engine has ended

    def _make_engine(self) -> LLMEngine:
        import logging

        logging.getLogger("vllm.triton_utils.importing").setLevel(logging.ERROR)
        from vllm.v1.engine.llm_engine import LLMEngine

        path, config, *_ = self._args
        engine = LLMEngine.from_engine_args(engine_args(*self._args, async_engine=False))
        engine.set_weight_version(str(self._version))
        init_info = {"path": path, "load": config.weight_load}
        engine.collective_rpc("init_weight_transfer_engine", kwargs={"init_info": init_info})
        self._in_background = all(engine.collective_rpc("weights_in_background"))
        return engine

    def _drain(self, *, wait: bool) -> None:
        if wait:
            self._inbox.get()()
        while True:
            try:
                command = self._inbox.get_nowait()
            except queue.Empty:
                return
            command()

    def _step(self) -> None:
        started = time.monotonic()
        try:
            finished = [read_output(o) for o in self._engine.step() if o.finished]
        except Exception as error:  # noqa: BLE001 an engine that cannot step is lost
            self._fail(f"engine step: {error!r}")
            return
        self._steps += 1
        self._busy_s += time.monotonic() - started
        if finished:
            self._tokens += sum(o.tokens_T.size for o in finished)
            self._deliver(finished)

    def _deliver(self, finished: Sequence[TokenOutput]) -> None:
        """Pass the outputs of one step to the `generate` calls that own them."""
        shares: dict[OutputQueue, list[TokenOutput]] = {}
        for output in finished:
            out = self._waiting.pop(output.id, None)
            if out is not None:  # else aborted in the same step
                shares.setdefault(out, []).append(output)
        self._post(list(shares.items()))

    def _post(
        self, pairs: Sequence[tuple[OutputQueue, list[TokenOutput] | InfrastructureError]]
    ) -> None:
        """Put the items into their queues; wakes the event loop only once."""

        def put() -> None:
            for out, item in pairs:
                out.put_nowait(item)

        self._loop.call_soon_threadsafe(put)

    def _fail(self, reason: str) -> InfrastructureError:
        """Shut down after an error: fail all requests in flight and accept no new ones.

        The worker has to be replaced.
        """
        self._closing = True
        error = InfrastructureError(reason)
        self._post([(out, error) for out in set(self._waiting.values())])
        self._waiting.clear()
        return error

    def _add(self, requests: Sequence[TokenRequest], out: OutputQueue) -> None:
        started = time.monotonic()
        for request in requests:
            self._engine.add_request(
                request.id, engine_prompt(request, self._version), sampling_params(request)
            )
            self._waiting[request.id] = out
        self._busy_s += time.monotonic() - started

    def _drop(self, ids: set[str]) -> None:
        """Abort requests whose caller no longer waits for an output."""
        self._engine.abort_request([i for i in ids if self._waiting.pop(i, None) is not None])

    def _abort(self, ids: Collection[str]) -> None:
        """Abort requests and deliver an aborted output for each."""
        ended = {i: self._waiting[i] for i in ids if i in self._waiting}
        self._drop(set(ended))
        self._post([(out, [TokenOutput.aborted(i)]) for i, out in ended.items()])

    def _begin(self, weights: FlatWeights, prepared: asyncio.Event) -> float:
        """Start preparing weights in the background; `prepared` is set at success or failure."""
        started = time.monotonic()

        def notify() -> None:
            self._loop.call_soon_threadsafe(prepared.set)

        info = weights.update_info() | {"on_prepared": notify}
        try:
            self._engine.collective_rpc("start_weight_update")
            self._engine.collective_rpc("update_weights", kwargs={"update_info": info})
        except Exception as error:
            raise self._abandon(error) from error
        return time.monotonic() - started

    def _finish(self, version: int) -> float:
        """Swap the prepared weights in; the next step is the first to use them, as `version`."""
        started = time.monotonic()
        try:
            self._engine.collective_rpc("finish_weight_update")
        except Exception as error:
            raise self._abandon(error) from error
        self._switch(version)
        return time.monotonic() - started

    def _abandon(self, error: Exception) -> InfrastructureError:
        """Close the update session and keep the weights in use, which did not change."""
        self._engine.collective_rpc("abandon_weight_update")
        return InfrastructureError(f"weights not loaded, version {self._version} stays: {error!r}")

    def _load_in_place(self, weights: FlatWeights, version: int) -> float:
        started = time.monotonic()
        info = weights.update_info()
        try:
            self._engine.collective_rpc("start_weight_update")
            self._engine.collective_rpc("update_weights", kwargs={"update_info": info})
            self._engine.collective_rpc("finish_weight_update")
        except Exception as error:
            raise self._fail(f"weight update: {error!r}") from error
        self._switch(version)
        return time.monotonic() - started

    def _switch(self, version: int) -> None:
        """Label new tokens with `version`; reset caches where `rollout.kv_after_update` says so."""
        self._engine.set_weight_version(str(version))
        self._version = version
        _, config, *_ = self._args
        if config.kv_after_update == "recompute":
            self._engine.reset_prefix_cache(reset_running_requests=True)


def _drained(item: list[TokenOutput] | InfrastructureError, out: OutputQueue) -> list[TokenOutput]:
    """The outputs of `item` and of all items in the queue; raises the first error among them."""
    outputs: list[TokenOutput] = []
    while True:
        if isinstance(item, InfrastructureError):
            raise item
        outputs += item
        if out.empty():
            return outputs
        item = out.get_nowait()
