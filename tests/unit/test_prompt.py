"""Prompts and completions as ids, for the tiny model and for a chat model with a byte-level BPE and
ChatML.
"""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AddedToken, PreTrainedTokenizerFast

from bard_ray.budget.codec import DigitsCodec, SentenceCodec
from bard_ray.budget.span import thinking_span
from bard_ray.config.schema import ChainConfig, StudentConfig, TinyModelConfig
from bard_ray.data.prompt import PromptFormat, load_prompt_format
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.errors import ConfigError, DataError
from bard_ray.records import NO_BUDGET, DistillRow, EffortBudget, Message, Question, TokenBudget

QUESTION = Question("q", (Message("user", "8a+1b*3?"),), "7", "integer")
CHAT = Question("q", (Message("system", "Be brief."), Message("user", "What is 1+1?")), "2")
# The shape of the Qwen3 template: it opens no think tag,
# and closes an empty one where thinking is switched off.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    write_tiny_model(path, TinyModelConfig(), ChainConfig(), seed=0, max_len=128)
    return load_prompt_format(str(path), StudentConfig(), "digits")


def bpe(think_tokens=("<think>", "</think>"), template=CHATML, eos="<|im_end|>"):
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    corpus = ["Think for at most 100 tokens. What is it? The answer is </think> \\boxed{2}"] * 3
    core.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, chat_template=template, eos_token=eos
    )
    tokenizer.add_tokens([AddedToken(tag, special=True) for tag in ("<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in think_tokens])
    return tokenizer


def test_tiny_prompt_and_completion_are_these_ids(tiny):
    assert tiny.prompt_text(QUESTION, TokenBudget(8)) == "8a+1b*3?<budget>08</budget><think>"
    assert tiny.prompt_ids(QUESTION, TokenBudget(8)).tolist() == [
        27,
        29,
        55,
        30,
        56,
        3,
        9,
        27,
        8,
        4,
    ]
    assert tiny.completion_ids("a9b7", "\\boxed{7}").tolist() == [29, 28, 30, 26, 5, 6, 26, 7, 1]
    assert tiny.prompt_ids(QUESTION, TokenBudget(8)).dtype == np.int32


def test_no_budget_and_hidden_budget_leave_no_trace(tiny):
    assert tiny.prompt_text(QUESTION, NO_BUDGET) == "8a+1b*3?<think>"
    assert tiny.prompt_text(QUESTION, TokenBudget(8), show_budget=False) == "8a+1b*3?<think>"


def test_decode_drops_eos_and_keeps_tags(tiny):
    assert tiny.decode(tiny.completion_ids("a9b7", "\\boxed{7}")) == "a9b7</think>\\boxed{7}"


@pytest.mark.parametrize("budget", [TokenBudget(100), EffortBudget(0.5)])
def test_a_budget_the_codec_cannot_write_names_the_field(tiny, budget):
    with pytest.raises(ConfigError) as caught:
        tiny.prompt_ids(QUESTION, budget)
    assert (caught.value.field, caught.value.value) == ("budget.codec", "digits")


def test_chat_model_gets_the_budget_in_the_user_turn_and_an_open_think_tag():
    prompts = PromptFormat(bpe(), SentenceCodec(), "<think>", "</think>")
    text = prompts.prompt_text(CHAT, TokenBudget(2000))
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nWhat is 1+1?\n\nThink for at most 2000 tokens.<|im_end|>\n"
        "<|im_start|>assistant\n<think>"
    )
    ids = prompts.prompt_ids(CHAT, TokenBudget(2000))
    assert prompts.tokenizer.decode(ids) == text


def test_the_budget_goes_to_the_last_user_turn():
    prompts = PromptFormat(bpe(), SentenceCodec(), "<think>", "</think>")
    turns = (Message("user", "1+1?"), Message("assistant", "2"), Message("user", "2+2?"))
    text = prompts.prompt_text(Question("q", turns, "4"), TokenBudget(9))
    assert "user\n1+1?<|im_end|>" in text
    assert "2+2?\n\nThink for at most 9 tokens.<|im_end|>" in text


def test_a_template_that_opens_the_tag_itself_is_left_alone():
    template = CHATML.replace("assistant\n", "assistant\n<think>\n")
    prompts = PromptFormat(bpe(template=template), DigitsCodec(), "<think>", "</think>")
    assert prompts.prompt_text(CHAT, NO_BUDGET).endswith("assistant\n<think>\n")


@pytest.mark.parametrize("think", ["\nThe answer\n", "The answer is", "is \n\n", ""])
def test_chat_completion_measures_as_long_as_its_thinking(think):
    prompts = PromptFormat(bpe(), SentenceCodec(), "<think>", "</think>")
    ids = prompts.completion_ids(think, "\n\n\\boxed{2}")
    span = thinking_span(ids, prompts.close_id)
    assert span.closed
    assert span.thinking_tokens == prompts.count_tokens([think])[0]
    assert prompts.decode(ids[: span.thinking_tokens]) == think
    assert prompts.decode(ids[span.answer_start :]) == "\n\n\\boxed{2}"
    assert ids[-1] == prompts.eos_id == prompts.tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_rows_in_a_batch_equal_rows_one_by_one(tiny):
    rows = [
        DistillRow(QUESTION, TokenBudget(4), "b7", "\\boxed{7}"),
        DistillRow(QUESTION, NO_BUDGET, "a+19b*37", "\\boxed{7}"),
        DistillRow(QUESTION, TokenBudget(4), "a9b7", "\\boxed{7}"),
    ]
    for row, (prompt_T, completion_T) in zip(rows, tiny.row_ids(rows), strict=True):
        np.testing.assert_array_equal(prompt_T, tiny.prompt_ids(row.question, row.budget))
        np.testing.assert_array_equal(completion_T, tiny.completion_ids(row.think, row.answer_text))


def test_a_closing_tag_of_several_tokens_is_refused():
    with pytest.raises(ConfigError, match="must be one token") as caught:
        PromptFormat(bpe(think_tokens=("<think>",)), SentenceCodec(), "<think>", "</think>")
    assert caught.value.field == "student.think_close"


def test_a_closing_tag_the_tiny_model_does_not_know_is_refused(tiny):
    with pytest.raises(ConfigError) as caught:
        PromptFormat(tiny.tokenizer, DigitsCodec(), "<think>", "</reasoning>")
    assert caught.value.field == "student.think_close"


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"template": None}, "without a chat template"),
        ({"eos": None}, "without an end-of-sequence token"),
    ],
)
def test_a_tokenizer_that_cannot_chat_is_refused(broken, problem):
    with pytest.raises(ConfigError, match=problem):
        PromptFormat(bpe(**broken), SentenceCodec(), "<think>", "</think>")


def test_a_directory_without_tokenizer_names_the_path(tmp_path):
    with pytest.raises(ConfigError, match=r"student\.path"):
        load_prompt_format(str(tmp_path), StudentConfig(), "digits")


def test_a_question_without_a_user_turn_is_a_data_error(tiny):
    with pytest.raises(DataError, match="no user message"):
        tiny.prompt_ids(Question("q", (Message("system", "8a+1?"),), "9"), NO_BUDGET)
