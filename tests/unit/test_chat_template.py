"""The exported chat template renders the prompts of training, token for token, for templates built
like those of well-known model families.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GenerationConfig

from bard_ray.budget.codec import SentenceCodec
from bard_ray.config.schema import StudentConfig
from bard_ray.data.chat_files import write_chat_templates, write_generation_config
from bard_ray.data.chat_template import open_thinking
from bard_ray.data.prompt import PromptFormat, load_prompt_format
from bard_ray.errors import ConfigError, DataError
from bard_ray.records import NO_BUDGET, Message, Question, TokenBudget
from tests.chat_models import (
    BARE,
    LLAMA,
    QWEN3,
    R1,
    TEMPLATES,
    chat_tokenizer,
    write_tokenizer,
)

ASK = (Message("user", " What is 2+2? \n"),)
SYSTEM = (Message("system", "Be brief."), *ASK)
TURNS = (
    Message("system", "Be brief."),
    Message("user", "1+1?"),
    Message("assistant", "<think>\nOne more.\n</think>\n\n2"),
    *ASK,
)
BUDGETED = " What is 2+2? \n\n\nThink for at most 50 tokens."


def prompts_of(template: str | dict[str, str] | None) -> PromptFormat:
    return PromptFormat(chat_tokenizer(template), SentenceCodec(), "<think>", "</think>")


def question(messages: tuple[Message, ...]) -> Question:
    return Question("q1", messages, "4")


def exported(source: Path, target: Path) -> tuple[PromptFormat, AutoTokenizer]:
    """Prompts of training from a model directory, and the tokenizer of its export."""
    prompts = load_prompt_format(str(source), StudentConfig(), "sentence")
    write_tokenizer(target, "to be replaced", in_config=True)
    write_chat_templates(target, prompts.templates)
    return prompts, AutoTokenizer.from_pretrained(target)


@pytest.mark.parametrize("in_config", [False, True], ids=["own_file", "in_config"])
@pytest.mark.parametrize("family", TEMPLATES)
def test_an_export_renders_the_prompts_of_training_token_for_token(tmp_path, family, in_config):
    source = write_tokenizer(tmp_path / "source", TEMPLATES[family], in_config=in_config)
    prompts, tokenizer = exported(source, tmp_path / "export")
    for messages in (ASK, SYSTEM, TURNS):
        for budget in (NO_BUDGET, TokenBudget(50)):
            sent = prompts.messages(question(messages), budget)
            trained = prompts.prompt_ids(question(messages), budget).tolist()
            for switch in ({}, {"enable_thinking": True}):
                served = tokenizer.apply_chat_template(sent, add_generation_prompt=True, **switch)
                assert served["input_ids"] == trained


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("qwen3", f"<|im_start|>user\n{BUDGETED}<|im_end|>\n<|im_start|>assistant\n<think>"),
        ("r1", f"<|bos|><|user|>{BUDGETED}<|assistant|><think>\n"),
        (
            "llama",
            "<|bos|><|head|>system<|/head|>\n\nToday: 26 Jul 2024\n\n<|im_end|>"
            f"<|head|>user<|/head|>\n\n{BUDGETED.strip()}<|im_end|>"
            "<|head|>assistant<|/head|>\n\n<think>",
        ),
        ("opt_in", f"\n<|turn|>user\n{BUDGETED}<|im_end|>\n<|turn|>assistant\n<think>\n"),
        ("other_switch", f"<|bos|><|user|>{BUDGETED}<|assistant|><think>"),
        ("flagged", f"<|im_start|>user\n{BUDGETED}<|im_end|>\n<|assistant|><think>"),
        ("bare", f"{BUDGETED}  <think>"),
    ],
)
def test_training_prompts_are_the_templates_own_and_end_in_the_open_tag(family, prompt):
    prompts = prompts_of(TEMPLATES[family])
    assert prompts.prompt_text(question(ASK), TokenBudget(50)) == prompt
    ids = prompts.prompt_ids(question(ASK), TokenBudget(50)).tolist()
    assert prompts.tokenizer.decode(ids) == prompt
    assert ids.count(prompts.tokenizer.bos_token_id) == prompt.count("<|bos|>")


@pytest.mark.parametrize(
    "template", [R1, QWEN3.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}")]
)
def test_a_template_that_thinks_unasked_is_exported_as_it_stands(template):
    assert prompts_of(template).templates == {"default": template}


@pytest.mark.parametrize("family", TEMPLATES)
def test_an_exported_template_is_trained_and_exported_again_unchanged(family):
    once = prompts_of(TEMPLATES[family]).templates
    assert prompts_of(once["default"]).templates == once


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
@pytest.mark.parametrize(
    ("family", "ending"),
    [
        ("qwen3", "assistant\n<think>\n\n</think>\n\n"),
        ("opt_in", "assistant\n<think>\n\n</think>\n"),
        ("other_switch", "<|assistant|></think>"),
        ("llama", "assistant<|/head|>\n\n"),
        ("flagged", "<|assistant|>"),
    ],
)
def test_a_caller_who_turns_thinking_off_gets_the_models_own_prompt(family, ending, switch):
    text = prompts_of(TEMPLATES[family]).tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}],
        chat_template=prompts_of(TEMPLATES[family]).templates["default"],
        tokenize=False,
        add_generation_prompt=True,
        **{switch: False},
    )
    assert text.endswith(f"{ending}")
    assert not text.endswith("<think>")


def test_nothing_follows_a_thought_that_the_conversation_has_closed():
    prompts = prompts_of(TEMPLATES["flagged"])
    messages = (Message("system", "/no_think"), *ASK)
    text = prompts.tokenizer.apply_chat_template(
        prompts.messages(question(messages), NO_BUDGET),
        chat_template=prompts.templates["default"],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text.endswith("<|assistant|><think>\n\n</think>\n")
    with pytest.raises(DataError, match=r"prompt of question q1 ends in .*</think>"):
        prompts.prompt_ids(question(messages), NO_BUDGET)


@pytest.mark.parametrize("family", TEMPLATES)
def test_without_a_generation_prompt_the_models_own_rendering_is_unchanged(family):
    original, prompts = chat_tokenizer(TEMPLATES[family]), prompts_of(TEMPLATES[family])
    served = chat_tokenizer(prompts.templates["default"])
    turns = prompts.messages(question(TURNS), NO_BUDGET)
    # A conversation to train on, and an answer that the model continues from its beginning.
    for messages, how in (
        (turns, {}),
        ([*turns, {"role": "assistant", "content": "It is"}], {"continue_final_message": True}),
    ):
        want = original.apply_chat_template(messages, tokenize=False, **how)
        assert served.apply_chat_template(messages, tokenize=False, **how) == want


def test_masks_of_assistant_tokens_survive_the_export():
    prompts = prompts_of(TEMPLATES["flagged"])
    turns = prompts.messages(question(TURNS), NO_BUDGET)
    masks = [
        chat_tokenizer(template).apply_chat_template(turns, return_assistant_tokens_mask=True)
        for template in (TEMPLATES["flagged"], prompts.templates["default"])
    ]
    assert masks[0]["assistant_masks"] == masks[1]["assistant_masks"]
    assert sum(masks[1]["assistant_masks"]) == len("One more.2") + len("\n" * 4) + 4


@pytest.mark.parametrize(
    "body", ["{{ messages[0].content }}\n", "\n\n{{ messages[0].content }} \n\n", BARE]
)
def test_blanks_and_line_breaks_at_both_ends_of_a_template_stay(body):
    """The exported template is the model's rendering and the tag, whatever its edges look like."""
    turns = [{"role": "user", "content": "Hi"}]
    want = chat_tokenizer(body).apply_chat_template(turns, tokenize=False)
    served = chat_tokenizer(open_thinking(body, "<think>", "</think>"))
    found = served.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert found == want + "<think>"


@pytest.mark.parametrize("marks", ["", "{% generation %}x{% endgeneration %}"])
@pytest.mark.parametrize(
    "body",
    [
        "{% macro f() %}{{ x }}{{ bos_token }}{% endmacro %}"
        "{% set x = 1 %}{{ f() }}{% set x = 2 %}{{ f() }}",
        "{% set x = 3 %}{% macro f(n) %}{% if n %}{{ n }}{{ f(n - 1) }}{% endif %}{{ x }}"
        "{% endmacro %}{{ f(3) }}",
        "{% set messages = messages[1:] %}{% macro f() %}{{ messages|length }}{% endmacro %}"
        "{{ f() }}",
        "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}{{ messages[0].content }}"
        "{% endcall %}{% filter upper %}abc{% endfilter %}",
        "{% set y %}{{ messages[0].content }}{% endset %}{{ y }}"
        "{% with z = 5 %}{{ z }}{% endwith %}",
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}"
        "{% endfor %}",
        "{% set n = namespace(a=1) %}{% for m in messages %}{% set n.a = n.a + 1 %}{% endfor %}"
        "{{ n.a }}{% raw %}{{ raw }}{% endraw %}{# a comment #}",
        "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
        "{% for m in messages %}{{ enable_thinking }}{{ more | default('none') }}{% endfor %}",
        "\t {% if true %}\n\t a{% endif %}\r\nb\r\n",
    ],
)
def test_what_a_template_may_use_works_as_before(body, marks):
    original = chat_tokenizer(body + marks)
    served = chat_tokenizer(open_thinking(body + marks, "<think>", "</think>"))
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    for arguments in ({}, {"more": "some"}):
        want = original.apply_chat_template(turns, tokenize=False, **arguments)
        assert served.apply_chat_template(turns, tokenize=False, **arguments) == want
        prompt = served.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **arguments
        )
        assert prompt == want + "<think>"


def test_tags_that_need_quoting_are_written_as_they_are():
    template = open_thinking("{{ messages[0].content }}", '<think lang="en">\\', "</think>")
    found = chat_tokenizer(template).apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert found == 'Hi<think lang="en">\\'


def test_named_templates_are_exported_too_and_prompts_use_the_default(tmp_path):
    named = {"default": QWEN3, "tool_use": LLAMA}
    for in_config in (False, True):
        source = write_tokenizer(tmp_path / f"source{in_config}", named, in_config=in_config)
        prompts, tokenizer = exported(source, tmp_path / f"export{in_config}")
        turns = prompts.messages(question(ASK), NO_BUDGET)
        arguments = {"tokenize": False, "add_generation_prompt": True}
        plain = tokenizer.apply_chat_template(turns, **arguments)
        assert plain == prompts.prompt_text(question(ASK), NO_BUDGET)
        with_tools = tokenizer.apply_chat_template(turns, tools=[], **arguments)
        assert with_tools.endswith("<|head|>assistant<|/head|>\n\n<think>")


def test_an_exported_directory_has_one_place_for_its_template(tmp_path):
    write_tokenizer(tmp_path, {"default": QWEN3, "old": LLAMA}, in_config=True)
    (tmp_path / "chat_template.json").write_text('{"chat_template": "other"}')
    before = json.loads((tmp_path / "tokenizer_config.json").read_text())
    write_chat_templates(tmp_path, {"default": "new", "more": "named"})
    assert (tmp_path / "chat_template.jinja").read_text() == "new"
    assert (tmp_path / "additional_chat_templates/more.jinja").read_text() == "named"
    assert not (tmp_path / "chat_template.json").exists()
    del before["chat_template"]
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == before
    write_chat_templates(tmp_path, {"default": "alone"})
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == "alone"


@pytest.mark.parametrize(
    ("template", "rule"),
    [
        (None, "without a chat template"),
        (
            {"rag": QWEN3, "tool_use": LLAMA},
            r"chat templates \(rag, tool_use\) but none named default",
        ),
        ({"default": QWEN3, "../up": LLAMA}, r"name '\.\./up', which cannot be a file name"),
        ("{% for m in messages %}{{ m.content }}", "cannot render a user message"),
        ("{{ raise_exception('a system message is needed') }}", "a system message is needed"),
        (
            "{% for m in messages %}{% for x in m.content %}{{ x.text }}{% endfor %}{% endfor %}",
            "does not show a user message given as plain text",
        ),
        (
            "{{ messages[0].content }}{% if add_generation_prompt %}<think></think>{% endif %}",
            "prompts end in .*</think>' even with thinking on",
        ),
    ],
    ids=["none", "no_default", "file_name", "syntax", "refuses", "parts_only", "never_thinks"],
)
def test_a_template_that_cannot_be_made_right_is_refused_when_it_is_read(template, rule):
    with pytest.raises(ConfigError, match=rule) as caught:
        prompts_of(template)
    assert caught.value.field == "student.path"


def test_messages_that_a_template_does_not_accept_name_the_question():
    messages = (*ASK, Message("system", "Be brief."))
    with pytest.raises(DataError, match=r"cannot render question q1 .*Only user and assistant"):
        prompts_of(LLAMA).prompt_ids(question(messages), NO_BUDGET)


@pytest.mark.parametrize(
    ("before", "ends"),
    [
        ({"eos_token_id": 7, "pad_token_id": 9}, [3, 7]),
        (
            {"eos_token_id": [7, 3], "top_k": 20, "temperature": 0.6, "repetition_penalty": 1.1},
            [3, 7],
        ),
        (None, [3, 5]),
    ],
)
def test_generation_stops_at_the_end_of_a_completion_and_samples_as_measured(
    tmp_path, before, ends
):
    (tmp_path / "config.json").write_text('{"eos_token_id": 5, "model_type": "qwen3"}')
    if before is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(before))
    write_generation_config(tmp_path, eos_id=3, temperature=0.8)
    found = GenerationConfig.from_pretrained(tmp_path)
    assert found.eos_token_id == ends
    assert (found.do_sample, found.temperature, found.top_k, found.top_p) == (True, 0.8, 0, 1.0)
    assert found.repetition_penalty is None
    assert found.pad_token_id == (before or {}).get("pad_token_id")


def test_a_greedy_evaluation_makes_greedy_the_default(tmp_path):
    write_generation_config(tmp_path, eos_id=3, temperature=0.0)
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    assert settings == {"eos_token_id": [3], "do_sample": False, "temperature": 0.0}
