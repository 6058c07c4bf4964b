"""An exported student asked by its users: transformers' chat template and vLLM's chat interface.

The student's own template does not open the think tag and closes it where thinking is switched off,
as those of hybrid models do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bard_ray.budget.codec import SentenceCodec
from bard_ray.config.schema import ChainConfig, StudentConfig, TinyModelConfig
from bard_ray.data.chain import chain_question
from bard_ray.data.prompt import PromptFormat, load_prompt_format
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.records import NO_BUDGET, Budget, Message, Question, TokenBudget
from tests.chat_models import TEMPLATES, chat_tokenizer
from tests.engines.runs import ROOT, Recipe

pytestmark = [pytest.mark.engines, pytest.mark.slow, pytest.mark.timeout(600)]

# `<unused..>` are tokens of the tiny vocabulary, here the marks around turns.
HYBRID = """\
{%- for message in messages %}
    {{- '<unused0>' + message.content + '<unused1>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<unused2>' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think></think>' }}
    {%- endif %}
{%- endif %}
"""
BUDGETS = (8, 16, 24)
QUESTIONS = 48
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}

Answer = dict[str, Any]  # token ids of `prompt` and `completion`, and `finish`


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Recipe:
    """A student that went through its supervised stages."""
    root = tmp_path_factory.mktemp("runs")
    write_tiny_model(root / "hybrid", TinyModelConfig(), ChainConfig(), seed=0, max_len=128)
    (root / "hybrid" / "chat_template.jinja").write_text(HYBRID)
    recipe = Recipe(root, "chat")
    recipe.run(f"student.path={root}/hybrid", "rl.enabled=false", "evaluate.enabled=false")
    return recipe


@pytest.fixture(scope="module")
def prompts(run) -> PromptFormat:
    """The prompts the run trained with."""
    return load_prompt_format(str(run.directory / "hybrid"), StudentConfig(), "digits")


@pytest.fixture(scope="module")
def asked() -> list[tuple[Question, Budget]]:
    """Questions at every budget and without one, then a conversation of three turns."""
    questions = [chain_question(ChainConfig(), 0, "eval", i) for i in range(QUESTIONS)]
    turns = (Message("user", "1a+1?"), Message("assistant", "b2\\boxed{2}"), *questions[0].messages)
    budgets: list[Budget] = [*map(TokenBudget, BUDGETS), NO_BUDGET]
    pairs = [(question, budget) for budget in budgets for question in questions]
    return [*pairs, (Question("turns", turns, "0", "integer"), TokenBudget(24))]


@pytest.fixture(scope="module")
def replies(run, prompts, asked) -> dict[str, list[Answer]]:
    """What the export answers: asked by chat, with other chat arguments, and by token ids."""
    request, reply = run.directory / "request.json", run.directory / "reply.json"
    content = {
        "conversations": [prompts.messages(*pair) for pair in asked],
        "prompts": [prompts.prompt_ids(*pair).tolist() for pair in asked],
        "chats": {
            "chat": {},
            "no_thinking": {"chat_template_kwargs": {"enable_thinking": False}},
            "template_of_the_base_model": {"chat_template": HYBRID},
        },
    }
    request.write_text(json.dumps(content))
    command = [sys.executable, "-m", "tests.engines.chat_client", run.path / "export"]
    done = subprocess.run(
        [*command, request, reply],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(reply.read_text())


def accuracy(answers: list[Answer], asked: list[tuple[Question, Budget]], prompts: PromptFormat):
    texts = [prompts.decode(answer["completion"]) for answer in answers]
    boxed = [re.search(r"</think>.*\\boxed\{(\d)\}", text) for text in texts]
    right = [
        found is not None and found[1] == q.answer
        for found, (q, _) in zip(boxed, asked, strict=True)
    ]
    return float(np.mean(right))


def test_vllm_chat_uses_the_prompts_of_training(replies, prompts, asked):
    want = [prompts.prompt_ids(*pair).tolist() for pair in asked]
    assert [answer["prompt"] for answer in replies["chat"]] == want
    assert want[0][-2:] == prompts.tokenizer.convert_tokens_to_ids(["<unused2>", "<think>"])


def test_vllm_chat_gets_the_answers_that_token_prompts_get(replies, prompts, asked):
    assert replies["chat"] == replies["token_ids"]
    assert np.mean([answer["finish"] == "stop" for answer in replies["chat"]]) > 0.9


def test_the_template_of_the_base_model_would_ruin_the_student(replies, prompts, asked):
    fixed = accuracy(replies["chat"], asked, prompts)
    base = accuracy(replies["template_of_the_base_model"], asked, prompts)
    assert fixed > 0.5
    assert fixed > base + 0.2  # 0.65 and 0.30 as measured


@pytest.mark.parametrize("family", TEMPLATES)
def test_vllm_renders_training_prompts_of_other_families(family):
    """Its own step from messages to token ids: argument filter, content format, sandbox."""
    from vllm.renderers.hf import safe_apply_chat_template

    trained = PromptFormat(
        chat_tokenizer(TEMPLATES[family]), SentenceCodec(), "<think>", "</think>"
    )
    served = chat_tokenizer(trained.templates["default"])
    model = SimpleNamespace(
        model="",
        tokenizer="",
        tokenizer_revision=None,
        code_revision=None,
        trust_remote_code=False,
    )
    question = Question("q", (Message("system", "Be brief."), Message("user", "1+1?")), "2")
    for budget in (NO_BUDGET, TokenBudget(50)):
        for switch in ({}, {"enable_thinking": True, "unknown": 1}):
            ids = safe_apply_chat_template(
                model,
                served,
                trained.messages(question, budget),
                add_generation_prompt=True,
                **switch,
            )
            assert ids == trained.prompt_ids(question, budget).tolist()


def test_a_caller_can_still_turn_thinking_off(replies, prompts):
    ids = prompts.tokenizer.convert_tokens_to_ids(["<unused2>", "<think>", "</think>"])
    assert all(answer["prompt"][-3:] == ids for answer in replies["no_thinking"])


def test_vllm_samples_by_default_as_the_evaluation_does(replies):
    assert replies["defaults"] == {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}


def test_the_card_of_the_export_shows_a_request_that_works(run):
    """Its code, run on the export, renders the prompt that the card shows."""
    card = (run.path / "export" / "README.md").read_text()
    code, shown = (
        re.search(rf"```{kind}\n(.*?)\n```", card, re.DOTALL) for kind in ("python", "text")
    )
    assert code is not None
    assert shown is not None
    names: dict[str, Any] = {}
    exec(code[1].replace("path/to/this/directory", str(run.path / "export")), names)  # noqa: S102
    assert names["prompt"] == shown[1]
    assert re.fullmatch(r"<unused0>.*<budget>24</budget><unused1><unused2><think>", shown[1])
