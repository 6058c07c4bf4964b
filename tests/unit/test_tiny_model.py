"""The tiny model directory is an ordinary Hugging Face one: tokens round-trip, it loads, it
generates.
"""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bard_ray.budget.codec import DigitsCodec
from bard_ray.config.schema import ChainConfig, TinyModelConfig
from bard_ray.data.chain import answer_text, chain_of, chain_question, gold_think
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.data.tiny_shape import vocabulary
from bard_ray.errors import ConfigError
from bard_ray.records import TokenBudget

OPS = ["+1", "-3", "*3"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    write_tiny_model(path, TinyModelConfig(), ChainConfig(ops=OPS), seed=0, max_len=128)
    return path


@pytest.fixture(scope="module")
def tokenizer(directory):
    return AutoTokenizer.from_pretrained(directory)


def test_500_of_500_texts_round_trip_without_unknown_tokens(tokenizer):
    rng = np.random.default_rng(0)
    for index in range(500):
        question = chain_question(ChainConfig(ops=OPS), 0, "train", index)
        budget = DigitsCodec().encode(TokenBudget(int(rng.integers(100))))
        chain = chain_of(question)
        answer = answer_text(question.answer)
        body = f"{question.messages[0].content}{budget}<think>{gold_think(chain)}</think>{answer}"
        ids = tokenizer(body, add_special_tokens=False)["input_ids"]
        # start, letter and op each, ?, three budget tokens, open tag, three a step, close tag,
        # three of the answer
        assert len(ids) == 1 + 2 * len(chain.ops) + 1 + 3 + 1 + 3 * len(chain.ops) + 1 + 3
        assert tokenizer.decode(ids) == body


def test_whatever_ids_the_model_samples_read_back_as_the_same_ids(tokenizer):
    ids = np.random.default_rng(1).integers(len(tokenizer), size=400).tolist()
    assert tokenizer(tokenizer.decode(ids), add_special_tokens=False)["input_ids"] == ids


def test_the_tens_digit_of_a_budget_is_in_the_opening_tag(tokenizer):
    assert tokenizer.tokenize("<budget>08</budget><budget>27</budget>") == [
        "<budget>0",
        "8",
        "</budget>",
        "<budget>2",
        "7",
        "</budget>",
    ]


def test_chat_template_ends_with_the_open_think_tag(tokenizer):
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "8a+1?"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "8a+1?<think>"


def test_vocabulary_is_a_multiple_of_64_and_every_id_has_text():
    every_op = [f"{sign}{digit}" for sign in "+-*" for digit in range(10)]
    assert (len(vocabulary(OPS)), len(vocabulary(every_op))) == (64, 128)
    assert len(set(vocabulary(every_op))) == 128


def test_it_loads_as_the_model_of_the_tiny_task_and_generates(directory, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    # 0.435M: head tied to the embedding.
    assert sum(p.numel() for p in model.parameters()) == 434_944
    assert model.config.vocab_size == len(tokenizer) == 64
    prompt = tokenizer("8a+1b*3?<think>", return_tensors="pt", add_special_tokens=False)
    out = model.generate(**prompt, max_new_tokens=8, do_sample=False, min_new_tokens=8)
    assert out.shape == (1, prompt["input_ids"].shape[1] + 8)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


def test_config_says_what_other_engines_read(directory):
    config = json.loads((directory / "config.json").read_text())
    expected = {
        "head_dim": 32,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    }
    assert {key: config[key] for key in expected} == expected
    assert config["rope_parameters"]["rope_theta"] == 1e4


def test_the_seed_decides_the_weights_and_the_callers_random_state_is_untouched(
    directory, tmp_path
):
    state = torch.random.get_rng_state()
    for name, seed in (("same", 0), ("other", 1)):
        write_tiny_model(
            tmp_path / name, TinyModelConfig(), ChainConfig(ops=OPS), seed=seed, max_len=128
        )
    assert torch.equal(state, torch.random.get_rng_state())
    weights = (directory / "model.safetensors").read_bytes()
    assert (tmp_path / "same/model.safetensors").read_bytes() == weights
    assert (tmp_path / "other/model.safetensors").read_bytes() != weights


@pytest.mark.parametrize(
    ("tiny", "ops", "field"),
    [
        (TinyModelConfig(heads=3), OPS, "student.tiny.hidden"),
        (TinyModelConfig(), ["plus"], "data.chain.ops"),
    ],
)
def test_a_wrong_shape_is_named(tmp_path, tiny, ops, field):
    with pytest.raises(ConfigError) as caught:
        write_tiny_model(tmp_path, tiny, ChainConfig(ops=ops), seed=0, max_len=128)
    assert caught.value.field == field
