"""The contestants of `rollout_throughput`: one process each, controlled by JSON lines.

    python -m benchmarks.contestants bare|offline|ray '{"overrides": [...], ...}'

All of them get the same prompts, seeds, sampling parameters and engine settings, keep the same
number of requests in flight and return the same arrays: token ids, log-probs and weight versions.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.cluster.env import actor_env, apply_driver_env, engine_env
from bard_ray.config.load import load
from bard_ray.config.schema import Config
from bard_ray.records import NO_BUDGET, GroupRequest, SamplingSpec, TokenBudget
from bard_ray.rewards.stats import BatchStats
from benchmarks.children import serve
from benchmarks.common import Clock

# Engine arguments passed to the offline interface, without those only training needs.
OFFLINE_ARGS = (
    "model",
    "trust_remote_code",
    "dtype",
    "max_model_len",
    "enforce_eager",
    "max_num_seqs",
    "block_size",
    "tensor_parallel_size",
    "disable_log_stats",
    "use_tqdm_on_load",
    "generation_config",
    "logprobs_mode",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "enable_chunked_prefill",
    "max_num_batched_tokens",
)


class Work:
    """The groups to serve, identical for all contestants."""

    def __init__(self, config: Config, budgets: Sequence[int]) -> None:
        from actors.stages.rl import request_maker

        self._request = request_maker(config)
        self._budgets = budgets
        self.size = config.rl.group_size
        self.spec = SamplingSpec(config.rl.temperature, config.rl.max_new_tokens)

    def groups(self, first: int, count: int) -> list[GroupRequest]:
        """`count` requests starting at number `first`."""
        return [self._group(number) for number in range(first, first + count)]

    def _group(self, number: int) -> GroupRequest:
        request = self._request(number, BatchStats())
        if not self._budgets:
            return request
        tokens = self._budgets[number % len(self._budgets)]
        budget = TokenBudget(tokens) if tokens else NO_BUDGET
        return replace(request, budgets=(budget,) * self.size)


class BareEngine:
    """One bare engine: add_request, step, read the finished outputs.

    It uses no Ray, no asyncio and no thread.
    """

    def __init__(self, config: Config, model: str, work: Work) -> None:
        from vllm.v1.engine.llm_engine import LLMEngine

        from actors.rollout.vllm_common import engine_args, warmup_requests
        from bard_ray.data.prompt import load_prompt_format

        self._config, self._work = config, work
        self._format = load_prompt_format(model, config.student, config.budget.codec)
        args = engine_args(model, config.rollout, config.student, 0, async_engine=False)
        self._engine = LLMEngine.from_engine_args(args)
        self._engine.set_weight_version("0")
        self._loop([warmup_requests()], 1)

    def run(self, question: dict[str, Any]) -> dict[str, Any]:
        """Serve the groups; tokens and seconds."""
        groups = self._work.groups(question["first"], question["groups"])
        clock = Clock()
        requests = token_requests(self._config, self._format, groups, self._work)
        tokens = self._loop(requests, slots_of(question, self._work.size))
        return {"tokens": tokens, "seconds": clock.seconds, "steps": self._steps}

    def _loop(self, groups: Iterable[Sequence[Any]], slots: int) -> int:
        """Serve groups with `slots` in flight; a group ends with its last request."""
        from actors.rollout.vllm_common import engine_prompt, read_output, sampling_params

        engine, waiting = self._engine, iter(groups)
        missing: dict[str, int] = {}
        tokens = self._steps = 0
        while True:
            for group in itertools.islice(waiting, slots - len(missing)):
                missing[_group_of(group[0].id)] = len(group)
                for request in group:
                    prompt, params = engine_prompt(request, 0), sampling_params(request)
                    engine.add_request(request.id, prompt, params)
            if not missing:
                return tokens
            self._steps += 1
            for output in engine.step():
                if output.finished:
                    read = read_output(output)
                    tokens += read.tokens_T.size
                    _count_down(missing, _group_of(read.id))


def _group_of(request_id: str) -> str:
    return request_id.rpartition("/")[0]


def _count_down(missing: dict[str, int], group: str) -> None:
    missing[group] -= 1
    if not missing[group]:
        del missing[group]


def slots_of(question: dict[str, Any], size: int) -> int:
    """Groups in flight at a time; a concurrency of 0 means all at once."""
    groups: int = question["groups"]
    if not question["concurrency"]:
        return groups
    return min(groups, max(1, question["concurrency"] // size))


def token_requests(
    config: Config, prompts: Any, groups: Sequence[GroupRequest], work: Work
) -> Iterator[Any]:
    """The engine's requests of each group, created when the group is due."""
    from actors.rollout.worker import token_requests as of_group

    for group in groups:
        yield of_group(group, work.spec, prompts, config.student.max_len, str(group.number))


class Offline:
    """vLLM's own batch interface, which takes all requests at once."""

    def __init__(self, config: Config, model: str, work: Work) -> None:
        from vllm import LLM

        from actors.rollout.vllm_common import engine_args
        from bard_ray.data.prompt import load_prompt_format

        self._config, self._work = config, work
        self._format = load_prompt_format(model, config.student, config.budget.codec)
        args = engine_args(model, config.rollout, config.student, 0, async_engine=False)
        self._llm = LLM(**{name: getattr(args, name) for name in OFFLINE_ARGS})

    def run(self, question: dict[str, Any]) -> dict[str, Any]:
        """Serve the groups; tokens and seconds."""
        groups = self._work.groups(question["first"], question["groups"])
        clock = Clock()
        requests = list(
            itertools.chain.from_iterable(
                token_requests(self._config, self._format, groups, self._work)
            )
        )
        outputs = self._llm.generate(
            [{"prompt_token_ids": r.prompt_T.tolist()} for r in requests],
            [offline_params(r) for r in requests],
            use_tqdm=False,
        )
        tokens = sum(len(o.outputs[0].token_ids) for o in outputs)
        return {"tokens": tokens, "seconds": clock.seconds}


def offline_params(request: Any) -> Any:
    """Parameters of `actors.rollout.vllm_common.sampling_params`, set as vLLM documents them."""
    from vllm import SamplingParams

    return SamplingParams(
        temperature=request.temperature,
        max_tokens=request.max_new_tokens,
        seed=request.seed,
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
    )


class Ray:
    """The path of an RL run: `RaySampler` over rollout actors, whole groups in the driver."""

    def __init__(self, config: Config, model: str, work: Work) -> None:
        self._config, self._model, self._work = config, model, work
        self._runner = asyncio.Runner()
        self._logs = tempfile.TemporaryDirectory()
        self._sampler: Any = None
        self._cluster: Any = None
        self._workers = 0

    def run(self, question: dict[str, Any]) -> dict[str, Any]:
        """Serve the groups with the requested number of workers; returns tokens and seconds."""
        if question["workers"] != self._workers:
            self.close()
            self._runner.run(self._start(question["workers"]))
        groups = self._work.groups(question["first"], question["groups"])
        return self._runner.run(self._serve(groups, slots_of(question, self._work.size)))

    async def _start(self, workers: int) -> None:
        from actors.cluster.ray_cluster import Cluster
        from actors.placement.deployment import Starter, bundles
        from actors.placement.plan import plan_placement
        from actors.rollout.client import RaySampler

        self._workers = workers
        config = replace(
            self._config,
            rollout=replace(self._config.rollout, workers=workers),
            rl=replace(self._config.rl, kl_coef=0.0),
        )
        plan = plan_placement(config).only({"rollout"})
        self._cluster = Cluster(config.cluster, Path(self._logs.name), verbose=False)
        await asyncio.to_thread(self._cluster.connect)
        await self._cluster.reserve(bundles(plan))
        starter = Starter(self._cluster, plan, config, self._model)
        self._sampler = RaySampler(workers, starter.rollout, self._cluster.kill, 600.0)
        await self._sampler.start()

    async def _serve(self, groups: Sequence[GroupRequest], slots: int) -> dict[str, Any]:
        """Keep the window full as the RL loop does: each free slot is refilled immediately."""
        waiting = list(groups)[::-1]
        before = await self._sampler.stats()
        clock, tokens, tasks = Clock(), 0, set[asyncio.Task[None]]()

        async def one(share: list[GroupRequest]) -> None:
            nonlocal tokens
            async for group in self._sampler.sample(share, self._work.spec):
                tokens += sum(r.completion_tokens for r in group.rollouts)
                if waiting:
                    refill([waiting.pop()])

        def refill(share: list[GroupRequest]) -> None:
            task = asyncio.get_running_loop().create_task(one(share))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        refill([waiting.pop() for _ in range(slots)])
        while tasks:
            await asyncio.gather(*tasks)
        seconds = clock.seconds
        after = await self._sampler.stats()
        busy = sum(a["busy_s"] - b["busy_s"] for b, a in zip(before, after, strict=True))
        steps = sum(a["steps"] - b["steps"] for b, a in zip(before, after, strict=True))
        share = round(busy / seconds / self._workers, 4)
        return {"tokens": tokens, "seconds": seconds, "steps": steps, "busy_share": share}

    def close(self) -> None:
        """Stop the cluster, if one was started."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None


def main() -> None:
    """Start one contestant and serve."""
    name, options = sys.argv[1], json.loads(sys.argv[2])
    from recipes.bard_tiny import config as recipe

    if name == "ray":
        apply_driver_env()
    else:
        os.environ.update(
            actor_env(threads=1, verbose=False, extra=engine_env(on_gpu=options["gpu"]))
        )
        if name == "offline":
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(options["processes"])
    config = load(recipe(), options["overrides"])
    work = Work(config, options["budgets"])
    kinds = {"bare": BareEngine, "offline": Offline, "ray": Ray}
    contestant: Any = kinds[name](config, options["model"], work)
    serve(contestant.run)
    if name == "ray":
        contestant.close()


if __name__ == "__main__":
    main()
