"""Asks a model directory through vLLM as its users do, in a process of its own.

    python -m tests.engines.chat_client DIRECTORY REQUEST REPLY

REQUEST and REPLY are JSON files: conversations and token prompts in, token ids out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MAX_TOKENS = 60


def main(directory: str, request: str, reply: str) -> None:
    """Answer every conversation once per set of chat arguments, and every token prompt once."""
    from vllm import LLM, SamplingParams

    asked = json.loads(Path(request).read_text())
    model = LLM(
        directory,
        dtype="float32",
        enforce_eager=True,
        max_model_len=128,
        kv_cache_memory_bytes=64 << 20,
        enable_chunked_prefill=False,
        disable_log_stats=True,
    )
    greedy = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    answers = {
        name: model.chat(asked["conversations"], greedy, use_tqdm=False, **arguments)
        for name, arguments in asked["chats"].items()
    }
    prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
    answers["token_ids"] = model.generate(prompts, greedy, use_tqdm=False)
    defaults = model.get_default_sampling_params()
    result: dict[str, Any] = {name: [_ids(o) for o in found] for name, found in answers.items()}
    result["defaults"] = {
        name: getattr(defaults, name) for name in ("temperature", "top_p", "top_k", "min_p")
    }
    Path(reply).write_text(json.dumps(result))


def _ids(output: Any) -> dict[str, Any]:
    completion = output.outputs[0]
    return {
        "prompt": list(output.prompt_token_ids),
        "completion": list(completion.token_ids),
        "finish": completion.finish_reason,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
