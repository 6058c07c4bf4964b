"""The tiny student: a small Qwen3 with random weights and a tokenizer for the chain task.

It is an ordinary Hugging Face model directory, so all other code treats it like any other model.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from bard_ray.config.schema import ChainConfig, TinyModelConfig
from bard_ray.data.chain import chain_problems
from bard_ray.data.tiny_shape import EOS, PAD, UNK, shape_problems, vocabulary

# The question unchanged, then the open think tag; earlier assistant turns end with eos.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<think>{% endif %}"
)


def make_tokenizer(ops: list[str], max_len: int) -> PreTrainedTokenizerFast:
    """Tokenizer with one token per digit, letter, operation and tag.

    Decoding joins the tokens.
    """
    tokens = vocabulary(ops)
    tokenizer = Tokenizer(
        models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=UNK)
    )
    # No token is a prefix of another, so their order is free: frequent ones first, for speed.
    single = "".join(token for token in tokens if len(token) == 1)
    longer = "|".join(re.escape(token) for token in sorted(tokens, key=len) if len(token) > 1)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(f"[{re.escape(single)}]|{longer}"), behavior="isolated"
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_len,
        clean_up_tokenization_spaces=False,
    )


def write_tiny_model(
    directory: str | Path, tiny: TinyModelConfig, chain: ChainConfig, seed: int, max_len: int
) -> None:
    """Write the model directory: config, generation config, tokenizer, safetensors.

    The seed determines the weights.

    Args:
        directory: created if it does not exist.
        tiny: shape of the model.
        chain: the task, whose operations become tokens.
        seed: seed of the random weights.
        max_len: longest sequence in tokens.

    Raises:
        ConfigError: the shape is inconsistent, or the task has invalid operations.
    """
    for problem in (*shape_problems(tiny), *chain_problems(chain, ())):
        raise problem
    tokenizer = make_tokenizer(chain.ops, max_len)
    config = _model_config(tiny, tokenizer, max_len)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        do_sample=True,
        temperature=1.0,
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _model_config(
    tiny: TinyModelConfig, tokenizer: PreTrainedTokenizerFast, max_len: int
) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=tiny.hidden,
        intermediate_size=tiny.mlp,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.heads,
        head_dim=tiny.hidden // tiny.heads,
        max_position_embeddings=max_len,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        initializer_range=tiny.init_std,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
