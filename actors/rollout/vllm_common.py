"""Shared by both vLLM engines: engine arguments, sampling parameters, reading an output."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from actors.rollout.engine import WARMUP_TOKENS, TokenOutput, TokenRequest
from actors.weights.flat_buffer import FLAT_BACKEND, register_flat_backend
from bard_ray.config.schema import RolloutConfig, StudentConfig
from bard_ray.errors import InfrastructureError
from bard_ray.records import Finish

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.engine.arg_utils import EngineArgs


CPU_BATCHED_TOKENS = 8192  # prompt tokens of one engine step


def engine_args(
    model_path: str, config: RolloutConfig, student: StudentConfig, seed: int, *, async_engine: bool
) -> EngineArgs:
    """Engine arguments for training rollouts.

    `processed_logprobs` with temperature-only sampling is the only setting in which the returned
    log-probs are those of the sampling distribution; `generation_config="vllm"` disables the
    model's own top_p/top_k defaults.
    """
    from vllm.config import ReasoningConfig, WeightTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs

    register_flat_backend()
    make = AsyncEngineArgs if async_engine else EngineArgs
    extra: dict[str, Any] = {"gpu_memory_utilization": config.gpu_memory_utilization}
    if config.gpus == 0:
        # A seeded request whose prompt is split over two steps crashes the CPU sampler (its
        # generator has no offset to rewind), so chunked prefill is off.
        extra = {
            "kv_cache_memory_bytes": config.kv_cache_mb << 20,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCHED_TOKENS, student.max_len),
        }
    return make(
        model=model_path,
        tokenizer=model_path,
        trust_remote_code=student.trust_remote_code,
        dtype=config.dtype,
        max_model_len=student.max_len,
        enforce_eager=config.enforce_eager,
        max_num_seqs=config.max_num_seqs,
        block_size=config.block_size,
        tensor_parallel_size=config.tensor_parallel,
        seed=seed,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        generation_config="vllm",
        logprobs_mode="processed_logprobs",
        enable_prefix_caching=True,
        worker_extension_cls="actors.weights.vllm_backend.FlatWorkerExtension",
        weight_transfer_config=WeightTransferConfig(backend=FLAT_BACKEND),
        reasoning_config=ReasoningConfig(
            reasoning_start_str=student.think_open, reasoning_end_str=student.think_close
        ),
        **extra,
    )


def sampling_params(request: TokenRequest) -> SamplingParams:
    """Sampling parameters: temperature only, log-prob of the sampled token only, no text.

    Returns a shallow copy of a cached template: validating and deep-copying each object took a
    third of the time of adding a request (measured).
    """
    params = copy(_sampling_template(request.temperature, request.force_at))
    params.max_tokens, params.seed = request.max_new_tokens, request.seed
    return params


@lru_cache(maxsize=256)
def _sampling_template(temperature: float, force_at: int | None) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=temperature,
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        thinking_token_budget=force_at,
        skip_clone=True,
    )


def engine_prompt(request: TokenRequest, version: int) -> Any:
    """The prompt, with the weight version as prefix-cache salt.

    An update does not clear the prefix cache; the salt keeps entries of old weights from matching.
    """
    return {"prompt_token_ids": request.prompt_T.tolist(), "cache_salt": f"v{version}"}


def warmup_requests(vocab_low: int = 5) -> list[TokenRequest]:
    """Warm-up requests of a new engine: one of `WARMUP_TOKENS` tokens, one of a single token."""
    long = np.full(WARMUP_TOKENS, vocab_low, dtype=np.int32)
    return [
        TokenRequest(f"warmup-{i}", prompt, 1.0, 4, seed=i)
        for i, prompt in enumerate((long, long[:1]))
    ]


def read_output(output: Any) -> TokenOutput:
    """Convert a finished vLLM `RequestOutput` to arrays.

    Raises:
        InfrastructureError: vLLM returned tokens without a weight version for each.
    """
    completion = output.outputs[0]
    tokens_T = np.asarray(completion.token_ids, dtype=np.int32)
    versions_T = np.full(tokens_T.size, -1, dtype=np.int32)
    for span in completion.weight_versions or ():
        versions_T[span.start : span.end] = int(span.version)
    if (versions_T < 0).any():
        msg = f"request {output.request_id}: tokens without a weight version"
        raise InfrastructureError(msg)
    logprobs_T = np.asarray(completion.logprobs.logprobs, dtype=np.float32)
    finish = cast("Mapping[str, Finish]", {"stop": "stop", "length": "length"}).get(
        completion.finish_reason, "abort"
    )
    return TokenOutput(tokens_T, logprobs_T, versions_T, finish, id=output.request_id)
