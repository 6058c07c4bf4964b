"""One request to an exported student, and the code that sends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bard_ray.config.schema import EvalConfig

_LOAD = '"path/to/this/directory"'


@dataclass(frozen=True, slots=True)
class ExampleRequest:
    """One request.

    Attributes:
        messages: the conversation a caller sends, including the budget.
        prompt: the rendered chat template, as used in training.
    """

    messages: Sequence[Mapping[str, str]]
    prompt: str


def transformers_code(example: ExampleRequest, *, trust_remote_code: bool) -> str:
    """Python code that renders `example.prompt` from its messages."""
    turns = "".join(f"    {dict(message)!r},\n" for message in example.messages)
    return f"""from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({_load(trust_remote_code)})
messages = [
{turns}]
prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)"""


def vllm_code(evaluate: EvalConfig, *, trust_remote_code: bool) -> str:
    """Python code that sends the same messages to vLLM, sampling as in the evaluation."""
    sampling = f"temperature={evaluate.temperature:g}, max_tokens={evaluate.max_new_tokens}"
    return f"""from vllm import LLM, SamplingParams

student = LLM({_load(trust_remote_code)})
output = student.chat(messages, SamplingParams({sampling}))
print(output[0].outputs[0].text)"""


def _load(trust_remote_code: bool) -> str:
    return f"{_LOAD}, trust_remote_code=True" if trust_remote_code else _LOAD
