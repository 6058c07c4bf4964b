"""The chain task: golden questions, exact arithmetic, splits that do not leak, messages for wrong
settings.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bard_ray.config.schema import ChainConfig
from bard_ray.data.chain import Chain, answer_text, chain_of, chain_question, gold_think
from bard_ray.errors import ConfigError
from bard_ray.records import Message, Question

OPS = st.lists(st.sampled_from(["+1", "*3", "-3", "-9", "*0"]), min_size=1, max_size=26)


def test_a_question_is_what_it_always_was():
    question = chain_question(ChainConfig(), seed=0, split="eval", index=3)
    assert question == Question(
        id="chain-eval-3",
        messages=(Message("user", "5a+1b*3c*3d+1e*3f+1g*3h+1i+1j*3?"),),
        answer="0",
        kind="integer",
        source="chain",
        meta={"start": 5, "ops": ["+1", "*3", "*3", "+1", "*3", "+1", "*3", "+1", "+1", "*3"]},
    )
    assert gold_think(chain_of(question)) == "a+16b*38c*34d+15e*35f+16g*38h+19i+10j*30"


def test_the_example_of_the_docstring():
    chain = Chain(8, ("+1", "*3", "+1"))
    assert (chain.text, chain.values, gold_think(chain)) == (
        "8a+1b*3c+1?",
        [9, 7, 8],
        "a+19b*37c+18",
    )
    assert answer_text("8") == "\\boxed{8}"


def test_values_wrap_both_ways():
    assert Chain(1, ("-3", "+9", "*7", "*0", "-1")).values == [8, 7, 9, 0, 9]


@given(start=st.integers(0, 9), ops=OPS)
@settings(max_examples=50, deadline=None)
def test_gold_chain_shows_every_operation_and_the_answer(start, ops):
    chain, value = Chain(start, tuple(ops)), start
    think = gold_think(chain)
    for step, op in enumerate(ops):
        value = {"+": value + int(op[1]), "-": value - int(op[1]), "*": value * int(op[1])}[
            op[0]
        ] % 10
        assert think[4 * step : 4 * step + 4] == f"{'abcdefghijklmnopqrstuvwxyz'[step]}{op}{value}"
    assert len(think) == 4 * len(ops)
    assert chain.values[-1] == value


def test_lengths_cover_the_range_and_base_has_short_ones():
    cfg = ChainConfig(min_ops=10, max_ops=12, base_min_ops=4)
    lengths = {
        s: {len(chain_of(chain_question(cfg, 0, s, i)).ops) for i in range(200)}
        for s in ("train", "base")
    }
    assert lengths == {"train": {10, 11, 12}, "base": set(range(4, 13))}


def test_no_evaluation_text_is_ever_trained_on():
    # 240 different questions: a leak would show at once.
    cfg = ChainConfig(min_ops=3, max_ops=4, base_min_ops=3)

    def texts(split):
        return {chain_question(cfg, 1, split, i).messages[0].content for i in range(400)}

    held_out = texts("eval")
    assert len(held_out) > 10
    for split in ("train", "base", "rl"):
        assert not held_out & texts(split)


def test_splits_indexes_and_seeds_differ():
    def text(seed, split, index):
        return chain_question(ChainConfig(), seed, split, index).messages[0].content

    assert (
        len(
            {
                text(seed, split, i)
                for seed in (0, 1)
                for split in ("train", "rl", "base")
                for i in range(5)
            }
        )
        == 30
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ops": ["+1", "/2"]}, "data.chain.ops"),
        ({"ops": ["+12"]}, "data.chain.ops"),
        ({"ops": []}, "data.chain.ops"),
        ({"min_ops": 15}, "data.chain.min_ops"),
    ],
)
def test_a_wrong_setting_is_named(change, field):
    with pytest.raises(ConfigError) as caught:
        chain_question(ChainConfig(**change), 0, "train", 0)
    assert caught.value.field == field


def test_a_task_too_small_for_an_evaluation_split_is_refused_not_looped_over():
    # Ten questions; none falls on the evaluation's side.
    cfg = ChainConfig(ops=["-3"], min_ops=1, max_ops=1)
    assert len({chain_question(cfg, 0, "train", i).answer for i in range(200)}) == 10
    with pytest.raises(ConfigError, match="too few different questions for the eval split"):
        chain_question(cfg, 0, "eval", 0)


def test_a_foreign_question_cannot_be_parsed_as_a_chain():
    with pytest.raises(ConfigError, match="hindsight"):
        chain_of(Question("q1", (Message("user", "1+1?"),), "2"))
