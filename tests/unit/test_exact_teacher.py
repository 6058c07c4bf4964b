"""The exact teacher: what it writes, how often it errs, how it continues a think prefix."""

import asyncio
import re
from collections import Counter

import pytest

from bard_ray.config.schema import ChainConfig
from bard_ray.data.chain import Chain, chain_of, chain_question, gold_think
from bard_ray.data.tiny_model import make_tokenizer
from bard_ray.distill.teacher import TEACHERS, TeacherRequest
from bard_ray.distill.teachers.exact import ExactBackend, ExactTeacher
from bard_ray.errors import ConfigError
from bard_ray.records import Message, Question
from tests.chat_server import DirectoryHost

CHAIN = Chain(8, ("+1", "*3", "+1", "*3"))  # 9, 7, 8, 4
QUESTION = Question(
    "q", (Message("user", CHAIN.text),), "4", meta={"start": 8, "ops": list(CHAIN.ops)}
)
SLOPPY = {"slip": 0.1, "skip": 0.2, "plain": 0.3, "recheck": 0.4, "wander": 0.3}


def request(question=QUESTION, seed=0, max_tokens=200, think=None, close_think=False):
    messages = question.messages if question else (Message("user", "hello"),)
    return TeacherRequest(messages, max_tokens, 0.6, seed, question, think, close_think)


def write(request, **params):
    return asyncio.run(ExactTeacher("t", ExactBackend(**params)).reply(request))


def steps_of(think):
    return re.findall(r"([a-z])([+\-*]\d)?(\d)", think)


def test_a_clean_teacher_writes_the_gold_chain():
    reply = write(request())
    assert reply.think == "a+19b*37c+18d*34"
    assert (reply.answer_text, reply.finish) == ("\\boxed{4}", "stop")
    # 8, four times letter and operation, ?, <think>; 12 + </think>, \boxed{, 4, }, eos
    assert (reply.prompt_tokens, reply.completion_tokens) == (11, 17)


def test_every_result_slips():
    # s = 1: each of the four values is another one than its operation gives.
    for seed in range(20):
        value = CHAIN.start
        for (_, op, result), expected in zip(
            steps_of(write(request(seed=seed), slip=1.0).think), CHAIN.ops, strict=True
        ):
            assert op == expected
            right = Chain(value, (op,)).values[0]
            value = int(result)
            assert value != right


def test_slips_propagate_and_the_accuracy_is_that_of_the_formula():
    right = 0
    for index in range(2000):
        question = chain_question(
            ChainConfig(ops=["+1", "*3"], min_ops=12, max_ops=12), 0, "rl", index
        )
        right += write(request(question, seed=index), slip=0.05, recheck=0.3).answer_text == (
            f"\\boxed{{{question.answer}}}"
        )
    # 1/10 + 9/10 (1 - 10/9 * 0.05)^12 = 0.5533; the standard error of 2000 draws is 0.011
    assert right / 2000 == pytest.approx(0.5533, abs=0.035)


def test_the_answer_is_the_value_of_the_last_step():
    for seed in range(50):
        reply = write(request(seed=seed), **SLOPPY)
        last = [value for letter, _, value in steps_of(reply.think) if letter == "d"][-1]
        assert reply.answer_text == f"\\boxed{{{last}}}"


def test_mean_numbers_of_steps_and_tokens():
    replies = {
        name: [
            write(request(seed=seed), max_think_tokens=1000, **{name: 0.4}) for seed in range(2000)
        ]
        for name in ("skip", "plain", "recheck", "wander")
    }
    steps = {name: sum(len(steps_of(r.think)) for r in of) / 2000 for name, of in replies.items()}
    assert steps["skip"] == pytest.approx(1 + 3 * 0.6, abs=0.08)
    assert steps["recheck"] == pytest.approx(4 / 0.6, abs=0.2)
    assert steps["wander"] == pytest.approx(4 + 3 * 0.4, abs=0.08)
    assert steps["plain"] == 4
    tokens = sum(r.completion_tokens - 5 for r in replies["plain"]) / 2000
    assert tokens == pytest.approx(4 * (3 - 0.4), abs=0.08)


def test_the_text_depends_on_seed_and_question():
    assert write(request(seed=3), **SLOPPY) == write(request(seed=3), **SLOPPY)
    thinks = Counter(write(request(seed=seed), **SLOPPY).think for seed in range(8))
    assert len(thinks) == 8
    assert len({write(request(seed=seed)).think for seed in range(8)}) == 1  # clean: one chain


def test_the_longest_chain_fits_the_tiny_student_and_its_tokenizer():
    tokenizer = make_tokenizer(["+1", "*3"], 128)
    config = ChainConfig(ops=["+1", "*3"], min_ops=14, max_ops=14)
    for index in range(50):
        question = chain_question(config, 0, "rl", index)
        reply = write(request(question, seed=index), **(SLOPPY | {"recheck": 0.95, "skip": 0.0}))
        text = f"{question.messages[0].content}<budget>30</budget><think>{reply.think}</think>"
        ids = tokenizer(text + reply.answer_text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert 64 < len(tokenizer(reply.think)["input_ids"]) <= 72
        assert len(ids) + 1 <= 128
        # Its own count: less the budget, `<think>` counted as the prompt's.
        assert reply.prompt_tokens + reply.completion_tokens == len(ids) + 1 - 3
    # A bound below the steps themselves leaves out the extras, not the steps.
    assert write(request(), recheck=0.9, wander=0.9, max_think_tokens=1).think == gold_think(CHAIN)


@pytest.mark.parametrize(
    ("think", "added"),
    [
        ("", "a+19b*37c+18d*34"),
        ("a+19b*37", "c+18d*34"),
        ("a9b7", "c+18d*34"),
        ("a+12", "b*36c+17d*31"),  # continues from the written value, although it is wrong
        ("b*37", "c+18d*34"),
        ("a+19b", "*37c+18d*34"),  # steps that were cut off are ended
        ("a+19b*3", "7c+18d*34"),
        ("a+19c", "+18d*34"),
        ("a+19b*37a+1", "9c+18d*34"),
        ("a+19b*37b*38", "c+19d*37"),  # of a step written twice the later result counts
        ("a+19b*37c+18d*34", ""),
        ("well, ", "a+19b*37c+18d*34"),
    ],
)
def test_an_open_think_prefix_is_continued(think, added):
    reply = write(request(think=think))
    assert reply.think == added
    final = steps_of(think + added)[-1][2]
    assert reply.answer_text == f"\\boxed{{{final}}}"


@pytest.mark.parametrize(
    ("think", "answer"), [("a+19b*37", 7), ("a9", 9), ("a+12b", 2), ("", 8), ("b*37a+19", 7)]
)
def test_a_closed_think_prefix_is_answered(think, answer):
    reply = write(request(think=think, close_think=True))
    assert (reply.think, reply.answer_text) == ("", f"\\boxed{{{answer}}}")
    assert reply.completion_tokens == 4


@pytest.mark.parametrize(
    ("max_tokens", "think", "answer", "ended"),
    [
        (4, "a+19b", "", "length"),
        (13, "a+19b*37c+18d*34", "", "length"),
        (15, "a+19b*37c+18d*34", "\\boxed{4", "length"),
        (17, "a+19b*37c+18d*34", "\\boxed{4}", "stop"),
    ],
)
def test_max_tokens_truncate_thinking_and_answer(max_tokens, think, answer, ended):
    reply = write(request(max_tokens=max_tokens))
    assert (reply.think, reply.answer_text, reply.finish) == (think, answer, ended)
    assert reply.completion_tokens == max_tokens


def test_counters_add_up(tmp_path):
    async def go():
        teacher = await TEACHERS.build("exact", {}).open("t", DirectoryHost(tmp_path))
        await teacher.reply(request())
        await teacher.reply(request(think="a+19", close_think=True))
        await teacher.close()
        return teacher.counters()

    assert asyncio.run(go()) == {"requests": 2, "prompt_tokens": 26, "completion_tokens": 21}


@pytest.mark.parametrize("question", [None, Question("q7", (Message("user", "1+1?"),), "2")])
def test_other_requests_are_refused(question):
    with pytest.raises(ConfigError, match=r"distill\.teachers\.t\.backend.*data\.source=chain"):
        write(request(question))


def test_parameters_are_probabilities():
    for params in ({"slip": 1.5}, {"wander": -0.1}, {"max_think_tokens": 0}):
        with pytest.raises(ConfigError):
            TEACHERS.build("exact", params)


def test_the_generator_of_questions_is_what_it_reads():
    question = chain_question(ChainConfig(), 5, "train", 3)
    assert write(request(question)).think == gold_think(chain_of(question))
