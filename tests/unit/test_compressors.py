"""Compressors: what they take, what they refuse and why, with writers that behave like LLMs."""

import json
import re
import tomllib
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bard_ray.config.schema import ChainConfig
from bard_ray.data.chain import Chain, chain_of, chain_question, gold_think
from bard_ray.distill.acceptance import AcceptanceTable
from bard_ray.distill.compressor import (
    COMPRESSORS,
    Compressed,
    CompressorTools,
    Reason,
    own_budgets,
)
from bard_ray.distill.compressors.by_difficulty import parse_rating
from bard_ray.distill.compressors.drop_steps import drop_steps, jittered_target, written_values
from bard_ray.distill.compressors.hindsight import hindsight_budget
from bard_ray.distill.compressors.rewrite import Rewrite
from bard_ray.distill.filter import Candidate
from bard_ray.distill.identity import digest, identity
from bard_ray.distill.prompt_templates import conversation_text, fill, sections
from bard_ray.distill.split_points import STEP, split_points
from bard_ray.distill.teacher import Reply
from bard_ray.distill.writing import Window, parse_rewritten
from bard_ray.errors import ConfigError, InfrastructureError, first_error
from bard_ray.records import NO_BUDGET, Message, Outcome, Question, TokenBudget, Verdict
from benchmarks.acceptance import SloppyWriter, chain_of_length, count_words, grade_here


def generator(seed=0):
    return np.random.default_rng(seed)


class Script:
    """A writer with scripted replies, in turn; an exception is raised."""

    def __init__(self, *replies):
        self.replies, self.requests = list(replies), []

    async def reply(self, request):
        self.requests.append(request)
        said = self.replies.pop(0)
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, Reply) else Reply("Let me see.", said)


def rewritten(num_words, answer="\\boxed{42}", word="new"):
    think = " ".join([word] * num_words)
    return f"<reasoning>{think}</reasoning>\n<answer>{answer}</answer>"


def tools(writer=None, seed=0, grade=grade_here):
    return CompressorTools(writer, count_words, grade, generator(seed))


async def compress(name, params, writer, budgets, natural=100, seed=0):
    """Results at the budgets, of a chain of `natural` words."""
    rule = COMPRESSORS.build(name, params)
    return await rule.compress(chain_of_length(0, natural), budgets, tools(writer, seed))


def facts(results):
    return [(r.budget, len(r.think.split()), str(r.reason), r.attempts) for r in results]


# drop_steps and hindsight


def task_chain(index=0, think=None, answer="x"):
    question = chain_question(ChainConfig(), 0, "train", index)
    think = gold_think(chain_of(question)) if think is None else think
    return Candidate(question, think, answer, np.zeros(len(think), np.int32))


def test_compressed_chains_are_what_they_always_were():
    chain = Chain(8, ("+1", "*3", "+1", "-3"))
    thinks = {target: drop_steps(chain, target, generator()) for target in (2, 5, 8, 10, 12, 99)}
    assert thinks == {
        2: "d5",
        5: "c+18d5",
        8: "a9b7c8d5",
        10: "a9b*37c+18d5",
        12: "a+19b*37c+18d-35",
        99: "a+19b*37c+18d-35",
    }


def task_tokens(think):
    """Length in tokens of the tiny model: letter, operation, value are one each."""
    return len(re.findall(r"[a-z]|[+\-*][0-9]|[0-9]", think))


@pytest.mark.parametrize("target", range(2, 50))
def test_compressed_length_is_the_target_and_the_last_step_survives(target):
    chain = Chain(3, ("+1", "*3") * 6)
    think = drop_steps(chain, target, np.random.default_rng(target))
    assert task_tokens(think) == min(target, 36)
    steps = STEP.findall(think)
    assert "".join(map("".join, steps)) == think
    letters = [letter for letter, _, _ in steps]
    assert letters == sorted(set(letters))
    assert letters[-1] == "l"
    for letter, op, value in steps:
        place = ord(letter) - ord("a")
        assert int(value) == chain.values[place]
        assert op in ("", chain.ops[place])


def test_every_step_but_the_last_is_equally_likely_to_survive():
    chain, rng = Chain(0, ("+1",) * 10), generator()
    kept = Counter(
        letter for _ in range(2000) for letter in re.findall("[a-j]", drop_steps(chain, 8, rng))
    )
    assert kept["j"] == 2000
    # 2000 * 3 / 9, five standard deviations.
    assert all(570 < kept[letter] < 770 for letter in "abcdefghi")


def test_targets_lie_within_the_jitter_and_reach_its_ends():
    rng = generator()
    targets = {jittered_target(20, 0.15, rng) for _ in range(500)}
    assert targets == set(range(17, 24))
    assert {jittered_target(2, 0.9, rng) for _ in range(100)} == {2, 3, 4}
    assert jittered_target(20, 0.0, rng) == 20


async def test_drop_steps_keeps_what_the_teacher_wrote_right_or_wrong():
    chain = Chain(8, ("+1", "*3", "+1", "-3"))
    assert written_values(chain, "a+19b*37c+18d-35") == dict(enumerate(chain.values))
    # A wrong value, a missing step, one written twice, one the question does not have.
    assert written_values(chain, "a+19 b6 a8 d-34 x5") == {0: 8, 1: 6, 3: 4}
    assert drop_steps(chain, 9, generator(), {0: 8, 1: 6, 3: 4}) == "a+18b*36d-34"
    rule = COMPRESSORS.build("drop_steps", {"jitter": 0.0})
    wrong = task_chain(think="a1b2c3", answer="\\boxed{9}")
    (row,) = await rule.compress(wrong, [6], tools())
    assert row == Compressed(6, "a1b2c3", "\\boxed{9}")
    results = await rule.compress(task_chain(think="Hm."), [6, 8], tools())
    assert facts(results) == [(6, 0, "bad_format", 0), (8, 0, "bad_format", 0)]


async def test_drop_steps_gives_every_budget_within_the_jitter():
    rule = COMPRESSORS.build("drop_steps", {})
    for index in range(50):
        results = await rule.compress(task_chain(index), [4, 16, 28], tools(seed=index))
        for row in results:
            assert not row.reason
            assert round(0.85 * row.budget) <= task_tokens(row.think) <= round(1.15 * row.budget)
    again = await rule.compress(task_chain(49), [4, 16, 28], tools(seed=49))
    assert again == results


async def test_drop_steps_names_what_it_cannot_do():
    rule = COMPRESSORS.build("drop_steps", {})
    with pytest.raises(ConfigError, match="synthetic task"):
        await rule.compress(chain_of_length(0, 10), [4], tools())
    with pytest.raises(ConfigError, match="smaller than one step"):
        await rule.compress(task_chain(), [1], tools())
    with pytest.raises(ConfigError, match=r"jitter must be at least 0 and at most 0\.99, not 1"):
        COMPRESSORS.build("drop_steps", {"jitter": 1.0})


@pytest.mark.parametrize(
    ("length", "budget"),
    [(1, TokenBudget(4)), (4, TokenBudget(4)), (5, TokenBudget(9)), (9, TokenBudget(9))],
)
def test_hindsight_rounds_up(length, budget):
    assert hindsight_budget(length, [4, 9]) == budget
    assert hindsight_budget(10, [4, 9]) == NO_BUDGET


async def test_hindsight_uses_the_smallest_budget_that_holds_the_chain():
    results = await compress("hindsight", {}, None, [4, 8, 16], natural=5)
    assert facts(results) == [(4, 0, "other_budget", 0), (8, 5, "", 0), (16, 0, "other_budget", 0)]
    assert results[1].answer_text == "\\boxed{42}"
    results = await compress("hindsight", {}, None, [4, 8], natural=9)
    assert facts(results) == [(4, 0, "other_budget", 0), (8, 9, "too_long", 0)]


def test_compressors_that_pick_budgets_say_how_many():
    picked = {name: own_budgets(COMPRESSORS.build(name, {})) for name in COMPRESSORS.names()}
    assert picked == {
        "hindsight": 1, "by_difficulty": 1, "rewrite": 0, "truncate": 0, "drop_steps": 0,
    }  # fmt: skip
    assert own_budgets(COMPRESSORS.build("truncate", {"ratios": [0.5, 1.0]})) == 2


# the window


def test_window_bounds_are_good_themselves():
    window = Window(0.75, 1.0)
    assert window.bounds(10) == (8, 10)
    assert [window.check(10, n) for n in (7, 8, 10, 11)] == ["too_short", "", "", "too_long"]
    assert Window(0.07, 1.1).bounds(100) == (7, 110)  # in floats 7.000000000000001 and 110.0...1


# what the writer says


@pytest.mark.parametrize(
    ("text", "think", "answer", "reason"),
    [
        ("<reasoning>a\nb</reasoning><answer>\\boxed{1}</answer>", "a\nb", "\\boxed{1}", ""),
        (
            "Sure!\n```xml\n<Reasoning>\n a \n</ reasoning >\n\n"
            "<ANSWER>\nSo \\boxed{1}.\n</ANSWER>\n```",
            "a",
            "So \\boxed{1}.",
            "",
        ),
        ("<reasoning>a</reasoning>\n\nThe final answer is 12.", "a", "The final answer is 12.", ""),
        ("<reasoning>a</reasoning>\n**Answer**\n<answer>\\boxed{1}", "a", "\\boxed{1}", ""),
        ("<reasoning>a<answer>\\boxed{1}</answer>", "a", "\\boxed{1}", ""),
        # Talk about the tags and a draft come before what counts.
        (
            "In <reasoning> tags:\n<reasoning>a</reasoning><answer>1</answer>\n"
            "Shorter:\n<reasoning>b</reasoning><answer>\\boxed{2}</answer> Done.",
            "b",
            "\\boxed{2}",
            "",
        ),
        ("<reasoning>a</reasoning><answer>42</answer>", "a", "\\boxed{42}", ""),
        (
            "<reasoning>a</reasoning><answer>$\\frac{1}{2}$</answer>",
            "a",
            "\\boxed{\\frac{1}{2}}",
            "",
        ),
        ("<reasoning>a</reasoning><answer>-.5</answer>", "a", "\\boxed{-.5}", ""),
        ("<reasoning>a</reasoning><answer> </answer>", "a", "", "no_answer"),
        ("<reasoning>a</reasoning>", "a", "", "no_answer"),
        ("<reasoning> </reasoning><answer>1</answer>", "", "", "bad_format"),
        ("<answer>\\boxed{1}</answer>", "", "", "bad_format"),
        ("<reasoning>a", "", "", "bad_format"),
        ("\\boxed{1}", "", "", "bad_format"),
        ("", "", "", "bad_format"),
        ("<reasoning>a</think>b</reasoning><answer>\\boxed{1}</answer>", "", "", "bad_format"),
    ],
)
def test_replies_are_read_as_they_were_meant(text, think, answer, reason):
    assert parse_rewritten(text) == (think, answer, reason)


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<>"), min_size=1).filter(
    lambda text: text.strip()
)


@given(WORDS, st.text(st.sampled_from("<>/ reasoningw\n")), WORDS)
@settings(max_examples=60, deadline=None)
def test_a_reply_in_the_requested_form_is_read_back_whatever_comes_before(think, talk, answer):
    reply = f"{talk}\n<reasoning>{think}</reasoning><answer>{answer}\n\\boxed{{1}}</answer>"
    expected = (think.strip(), f"{answer}\n\\boxed{{1}}".strip(), "")
    assert parse_rewritten(reply) == expected


# rewrite


async def test_rewrite_takes_natural_chains_that_fit_and_lengthens_none():
    writer = Script(rewritten(35))
    results = await compress("rewrite", {}, writer, [40, 100, 133, 134])
    assert facts(results) == [
        (40, 35, "", 1),
        (100, 100, "", 0),
        (133, 100, "", 0),
        (134, 0, "chain_too_short", 0),
    ]
    assert results[1].think.startswith("w0 w1 ")
    assert len(writer.requests) == 1


async def test_rewrite_requests_with_its_parameters():
    writer = Script(rewritten(35))
    await compress("rewrite", {"temperature": 0.2, "max_tokens": 99}, writer, [40])
    (request,) = writer.requests
    (message,) = request.messages
    assert "about 35 words, 35 % of the original" in message.content
    assert (
        "for a budget of 40 tokens, between 30 and 40 of them; the original has 100"
        in message.content
    )
    assert "6 * 7?" in message.content
    assert "w0 w1 w2" in message.content
    assert (request.temperature, request.max_tokens, request.think, request.close_think) == (
        0.2,
        99,
        None,
        False,
    )
    assert "{" not in message.content.replace("\\boxed{}", "")


async def test_without_thinking_the_writer_starts_after_an_empty_think_prefix():
    writer = Script(rewritten(35))
    await compress("rewrite", {"think": False}, writer, [40])
    assert (writer.requests[0].think, writer.requests[0].close_think) == ("", True)
    writer = Script("<difficulty>1</difficulty>", rewritten(35))
    await compress("by_difficulty", {"think": False}, writer, [40])
    assert [(request.think, request.close_think) for request in writer.requests] == [("", True)] * 2


async def test_feedback_has_the_reasons_and_the_measured_length():
    writer = Script(rewritten(80), rewritten(20), rewritten(36))
    (result,) = await compress("rewrite", {}, writer, [40])
    assert facts([result]) == [(40, 36, "", 3)]
    first, second, third = (request.messages for request in writer.requests)
    assert [m.role for m in second] == ["user", "assistant", "user"]
    assert second[0] == third[0] == first[0]
    assert second[1].content == rewritten(80)
    assert "too long: it has 80 tokens, and it must have at most 40" in second[2].content
    assert "about 56 % of it" in second[2].content  # 80 to 35
    assert second[2].content.endswith("Write the whole of it again, in the same form.")
    # Only the last try is shown.
    assert [m.content for m in third[1:2]] == [rewritten(20)]
    assert "too short: it has 20 tokens, and it must have at least 30" in third[2].content
    assert "about 75 % more" in third[2].content  # 20 to 35
    assert len({request.seed for request in writer.requests}) == 3


async def test_feedback_names_a_wrong_answer_and_a_wrong_length_together():
    writer = Script(rewritten(80, "\\boxed{41}"), rewritten(30))
    (result,) = await compress("rewrite", {}, writer, [40])
    assert facts([result]) == [(40, 30, "", 2)]
    feedback = writer.requests[1].messages[2].content
    assert "not the correct one" in feedback
    assert "it has 80 tokens" in feedback
    assert "42" not in feedback  # the answer is not given away


@pytest.mark.parametrize(
    ("replies", "length", "reason"),
    [
        ([rewritten(60), rewritten(45), rewritten(90)], 45, "too_long"),
        ([rewritten(29), rewritten(10), rewritten(60)], 29, "too_short"),
        # A right answer of the wrong length is nearer than a wrong answer.
        ([rewritten(35, "\\boxed{41}"), rewritten(99), "none"], 99, "too_long"),
        ([rewritten(35, "\\boxed{41}"), "none", "none"], 35, "wrong_answer"),
        (["<reasoning>a b</reasoning>", "none", "none"], 2, "no_answer"),
        ([rewritten(35, "it is \nunclear")] * 3, 35, "no_answer"),
        (["none", "", "none"], 0, "bad_format"),
        ([Reply("", rewritten(35), "length")] * 3, 0, "cut_off"),
    ],
)
async def test_rewrite_keeps_the_best_attempt_and_its_reason(replies, length, reason):
    (result,) = await compress("rewrite", {"attempts": 3}, Script(*replies), [40])
    assert facts([result]) == [(40, length, reason, 3)]


async def test_rewrite_stops_where_another_attempt_would_not_help():
    failed = Reply("", "", "failed", "content filter")
    (result,) = await compress("rewrite", {}, Script(failed), [40])
    assert facts([result]) == [(40, 0, "failed", 1)]
    (result,) = await compress("rewrite", {}, Script(rewritten(50), failed), [40])
    assert facts([result]) == [(40, 50, "too_long", 2)]

    async def broken(items):
        return [Verdict(Outcome.BROKEN)] * len(items)

    rule = COMPRESSORS.build("rewrite", {})
    work = tools(Script(rewritten(35)), grade=broken)
    (result,) = await rule.compress(chain_of_length(0, 100), [40], work)
    assert facts([result]) == [(40, 35, "not_graded", 1)]


async def test_after_a_reply_without_text_rewrite_repeats_the_request():
    writer = Script(Reply("", "half", "length"), "", rewritten(35))
    (result,) = await compress("rewrite", {}, writer, [40])
    assert facts([result]) == [(40, 35, "", 3)]
    assert len({request.messages for request in writer.requests}) == 1
    assert len({request.key() for request in writer.requests}) == 3


async def test_a_copy_is_no_rewriting_even_inside_the_window():
    rule = COMPRESSORS.build("rewrite", {"high": 1.2, "attempts": 2})
    # The student counts the natural chain longer than the copy: its own line breaks.
    chain = replace(chain_of_length(0, 44), tokens_T=np.zeros(49, np.int32))
    copy = f"<reasoning>{chain.think}\n</reasoning><answer>\\boxed{{42}}</answer>"
    writer = Script(copy, copy)
    (result,) = await rule.compress(chain, [40], tools(writer))
    assert (result.reason, result.attempts) == ("copied", 2)
    assert "You repeated the original" in writer.requests[1].messages[2].content


async def test_recheck_answers_from_the_rewritten_chain_alone():
    writer = Script(rewritten(35), "\\boxed{41}", rewritten(36), "\\boxed{42}")
    (result,) = await compress("rewrite", {"recheck": True}, writer, [40])
    assert facts([result]) == [(40, 36, "", 2)]
    check = writer.requests[1]
    assert check.messages == (Message("user", "6 * 7?"),)
    assert (check.think, check.close_think) == (" ".join(["new"] * 35), True)
    assert check.question is not None
    assert "arrives at another result" in writer.requests[2].messages[2].content
    writer = Script(rewritten(35), Reply("", "", "failed", "gone"))
    (result,) = await compress("rewrite", {"recheck": True}, writer, [40])
    assert result.reason == "failed"


async def test_budgets_do_not_depend_on_each_other_nor_on_what_comes_first():
    def writer():
        return SloppyWriter(wrong=0.2, unformed=0.2)

    both = await compress("rewrite", {}, writer(), [20, 40], seed=5)
    again = await compress("rewrite", {}, writer(), [20, 40], seed=5)
    assert both == again
    assert await compress("rewrite", {}, writer(), [40], seed=5) == both[1:]
    other = [await compress("rewrite", {}, writer(), [20, 40], seed=s) for s in range(6, 9)]
    assert any(results != both for results in other)


async def test_feedback_makes_a_writer_with_a_length_error_useful():
    async def table(attempts):
        rows = AcceptanceTable()
        for seed in range(100):
            params = {"attempts": attempts}
            results = await compress("rewrite", params, SloppyWriter(), [50], 200, seed)
            for one in results:
                rows.add(one.budget, len(one.think.split()), one.reason, one.attempts)
        return rows.to_json()["50"]

    once, four = await table(1), await table(4)
    # exp(0.35 + 0.2 z) in 0.86..1.14 of the middle: a tenth at first, most after corrections.
    assert 0.05 < once["share"] < 0.3
    assert four["share"] > 0.85
    assert 2 < four["mean_attempts"] < 3
    assert once["reasons"]["too_long"] > 70
    assert 0.05 < four["mean_error"] < 0.2


async def test_trouble_of_the_writer_itself_is_not_a_reason():
    with pytest.raises(ExceptionGroup) as caught:
        await compress("rewrite", {}, Script(InfrastructureError("gone")), [40])
    assert isinstance(first_error(caught.value), InfrastructureError)


@pytest.mark.parametrize("name", ["rewrite", "by_difficulty", "truncate"])
async def test_a_missing_writer_is_named(name):
    with pytest.raises(ConfigError) as caught:
        await compress(name, {}, None, [40])
    assert caught.value.field == "distill.compressor.writer"
    assert name in caught.value.rule


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("rewrite", {"low": 1.2}, "high must be above 1.2"),
        ("rewrite", {"attempts": 0}, "attempts must be at least 1"),
        ("rewrite", {"request": "x"}, "is not a parameter of rewrite"),
        ("by_difficulty", {"levels": 1}, "levels must be at least 2"),
        ("by_difficulty", {"shortest": 9, "longest": 8}, "longest must be at least 9"),
        ("truncate", {"ratios": [0.5, 1.5]}, "ratios must be above 0 and at most 1"),
        ("truncate", {"max_tokens": 0}, "max_tokens must be at least 1"),
    ],
)
def test_wrong_parameters_are_named(name, params, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        COMPRESSORS.build(name, params)


# prompts


def test_only_the_names_of_a_prompt_are_filled_in_and_once():
    text = r"\frac{1}{2} {chain} {other} {{budget}} {question}"
    values = {"chain": r"{question} \boxed{x} \1", "question": "{chain}?", "budget": 7}
    assert fill(text, values) == r"\frac{1}{2} {question} \boxed{x} \1 {other} {7} {chain}?"


@given(st.text(), st.text())
@settings(max_examples=60, deadline=None)
def test_what_is_filled_in_stays_as_it_is(question, chain):
    filled = fill("<{question}|{chain}>", {"question": question, "chain": chain})
    assert filled == f"<{question}|{chain}>"


async def test_braces_in_questions_and_chains_reach_the_writer_unchanged():
    question = Question("q", (Message("user", r"Let {budget} = \{x\} and {0}?"),), "42")
    think = r"{chain} {question} \frac{a}{b} " * 10
    chain = Candidate(question, think, "42", np.zeros(100, np.int32))
    writer = Script(rewritten(35))
    await COMPRESSORS.build("rewrite", {}).compress(chain, [40], tools(writer))
    sent = writer.requests[0].messages[0].content
    assert r"Let {budget} = \{x\} and {0}?" in sent
    assert think.strip() in sent


def test_questions_of_several_messages_keep_their_roles():
    turns = (Message("system", "Be kind."), Message("user", "1+1?"))
    assert conversation_text(turns) == "system: Be kind.\n\nuser: 1+1?"
    assert conversation_text(turns[1:]) == "1+1?"


async def test_templates_of_the_user_are_used(tmp_path):
    own, feedback = tmp_path / "own.txt", tmp_path / "feedback.txt"
    own.write_text("Kürze {chain} zu {question} auf {budget}: {answer}, {words}", "utf-8")
    built_in = Rewrite().remarks
    feedback.write_text(
        re.sub(r"(?s)\[too_long\].*?\[", "[too_long]\nZu lang: {measured}\n\n[", built_in)
    )
    writer = Script(rewritten(80), rewritten(35))
    params = {"prompt": str(own), "feedback": str(feedback)}
    await compress("rewrite", params, writer, [40], natural=100)
    words = " ".join(f"w{n}" for n in range(100))
    assert writer.requests[0].messages[0].content == f"Kürze {words} zu 6 * 7? auf 40: 42, 35"
    assert writer.requests[1].messages[2].content.startswith("Zu lang: 80\n\nWrite the whole")


def test_what_a_prompt_says_decides_the_identity_and_not_where_it_lies(tmp_path):
    built_in = Rewrite()
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(built_in.request)
    same = [COMPRESSORS.build("rewrite", {"prompt": str(tmp_path / n)}) for n in ("a.txt", "b.txt")]
    assert {digest(identity(rule)) for rule in (built_in, *same)} == {digest(identity(built_in))}
    for name, parameter in (("rewrite", "prompt"), ("by_difficulty", "rating_prompt")):
        path = tmp_path / f"{parameter}.txt"
        path.write_text("{question} {chain} {budget} {levels}")
        own = COMPRESSORS.build(name, {parameter: str(path)})
        assert digest(identity(own)) != digest(identity(COMPRESSORS.build(name, {})))
        path.write_text("{question} {chain} {budget} {levels}!")
        assert identity(COMPRESSORS.build(name, {parameter: str(path)})) != identity(own)
    json.dumps(identity(built_in))


@pytest.mark.parametrize(
    ("name", "parameter", "text", "message"),
    [
        ("rewrite", "prompt", "{question} {chain}", "lacks the placeholder {budget}"),
        ("rewrite", "prompt", "{chain} {budget}", "lacks the placeholder {question}"),
        ("rewrite", "feedback", "[too_long]\nx", "lacks the section [too_short]"),
        ("by_difficulty", "rating_prompt", "{question}", "lacks the placeholder {levels}"),
        ("rewrite", "prompt", None, "cannot be read (No such file"),
        ("rewrite", "prompt", b"\xff", "cannot be read (it is not UTF-8)"),
    ],
)
def test_an_unusable_template_is_named(tmp_path, name, parameter, text, message):
    path = tmp_path / "own.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        COMPRESSORS.build(name, {parameter: str(path)})
    assert caught.value.field == f"distill.compressor.params.{parameter}"
    assert caught.value.value == str(path)


def test_sections_of_a_file():
    text = "preface\n[one]\n a [b]\n\nc\n[two]  \nd"
    assert sections(text) == {"one": "a [b]\n\nc", "two": "d"}


def test_prompts_are_installed_with_the_package():
    root = Path(__file__).resolve().parents[2]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    folder = files("bard_ray.distill.prompts")
    assert data["package-data"]["bard_ray.distill.prompts"] == ["*.txt"]
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".txt"))
    assert names == ["difficulty.txt", "feedback.txt", "rewrite.txt"]


# by_difficulty


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("<difficulty>3</difficulty>", 3),
        ("I would say 9 of 10, but: < Difficulty > 2 </difficulty>", 2),
        ("4", 4),
        ("Difficulty: 4. Yes, 4.", 4),
        ("between 3 and 4", None),
        ("<difficulty>6</difficulty>", None),
        ("<difficulty>0</difficulty>", None),
        ("hard", None),
        ("", None),
    ],
)
def test_ratings_are_read(text, rating):
    assert parse_rating(text, levels=5) == rating


@pytest.mark.parametrize(
    ("rating", "natural", "chosen"),
    [
        # 100 * 16^((d - 1) / 4): 100, 200, 400, 800, 1600.
        (1, 5000, 100),
        (2, 5000, 200),
        (3, 5000, 400),
        (4, 5000, 800),
        (5, 5000, 1600),
        # 500 tokens fill no more than 400 (0.75 of it is 300), 800 would want 600.
        (5, 500, 400),
        (1, 500, 100),
    ],
)
async def test_difficulty_decides_the_one_budget(rating, natural, chosen):
    taught = [100, 200, 400, 800, 1600]
    length = round(0.9 * chosen)
    writer = Script(f"<difficulty>{rating}</difficulty>", rewritten(length))
    results = await compress("by_difficulty", {}, writer, taught, natural)
    good = [fact for fact in facts(results) if fact[2] != "other_budget"]
    natural_fits = 0.75 * chosen <= natural <= chosen
    assert good == [(chosen, natural if natural_fits else length, "", 1 if natural_fits else 2)]
    assert [r.budget for r in results] == taught
    assert "from 1 (a single obvious step) to 5" in writer.requests[0].messages[0].content


async def test_lengths_of_easy_and_hard_questions_can_be_set():
    params = {"levels": 2, "shortest": 390, "longest": 420}
    writer = Script("<difficulty>1</difficulty>", rewritten(350))
    results = await compress("by_difficulty", params, writer, [100, 400, 1600], 5000)
    assert [r.reason for r in results] == ["other_budget", "", "other_budget"]


async def test_without_a_rating_nothing_is_rewritten():
    writer = Script("hard", "very hard", Reply("", "4", "length"))
    results = await compress("by_difficulty", {"attempts": 3}, writer, [100, 400, 1600], 500)
    expected = [(100, 0, "other_budget", 0), (400, 0, "no_rating", 3), (1600, 0, "other_budget", 0)]
    assert facts(results) == expected
    writer = Script("hard", Reply("", "", "failed", "filter"))
    results = await compress("by_difficulty", {}, writer, [100], 500)
    assert results[0].reason == "no_rating"
    assert len(writer.requests) == 2


# truncate

TEXT = "One two three. Four five\nsix seven eight! Is 3.5 nine? Ten."


def test_cuts_are_behind_sentences_lines_and_steps():
    ends = [TEXT[:end].split()[-1] for end in split_points(TEXT)]
    assert ends == ["three.", "five", "eight!", "nine?"]
    assert split_points("a+19b7c-35") == [4, 6]
    assert split_points("a b c") == []
    display = "So\n\\[\nx = 1. \\text{ok}\n\\]\nhence. $$a\nb. c$$ End."
    assert [display[:end][-6:] for end in split_points(display)] == ["So", "ok}\n\\]", "hence."]
    assert split_points("甲。乙。丙") == [2, 4]


@given(st.text(st.sampled_from("ab .\n!?$\\[]")))
@settings(max_examples=100, deadline=None)
def test_cuts_lie_inside_the_text_and_ascend(text):
    ends = split_points(text)
    assert ends == sorted(set(ends))
    assert all(text[:end].strip() and text[end:].strip() for end in ends)


def text_chain(think=TEXT):
    question = Question("q", (Message("user", "6 * 7?"),), "42")
    return Candidate(question, think, "\\boxed{42}", np.zeros(len(think.split()), np.int32))


async def test_truncate_cuts_at_the_budget_and_has_the_answer_written():
    writer = Script("\\boxed{42}", "\\boxed{42}")
    rule = COMPRESSORS.build("truncate", {"connect": " Stop now.", "low": 0.6})
    results = await rule.compress(text_chain(), [5, 8, 12, 13, 30], tools(writer))
    assert [(r.budget, r.think, r.reason, r.attempts) for r in results] == [
        (5, "One two three. Stop now.", "", 1),
        (8, "One two three. Four five Stop now.", "", 1),
        (12, TEXT, "", 0),
        (13, TEXT, "", 0),
        (30, "", "chain_too_short", 0),
    ]
    (first, _) = writer.requests
    assert first.messages == (Message("user", "6 * 7?"),)
    assert (first.think, first.close_think) == ("One two three. Stop now.", True)


async def test_truncate_retries_after_a_wrong_answer_and_reports_the_last_one():
    params = {"connect": "", "low": 0.5}
    rule = COMPRESSORS.build("truncate", params)
    writer = Script("\\boxed{41}", "\\boxed{42}")
    (result,) = await rule.compress(text_chain(), [8], tools(writer))
    assert (result.reason, result.attempts, result.answer_text) == ("", 2, "\\boxed{42}")
    assert writer.requests[0].seed != writer.requests[1].seed
    for reply, reason, attempts in [
        ("\\boxed{41}", "wrong_answer", 2),
        ("No idea.", "no_answer", 2),
        (Reply("", "\\boxed{", "length"), "cut_off", 2),
        (Reply("", "", "failed", "x"), "failed", 1),
    ]:
        (result,) = await rule.compress(text_chain(), [8], tools(Script(reply, reply)))
        assert (result.reason, result.attempts) == (reason, attempts)


async def test_truncate_finds_no_place_to_cut():
    rule = COMPRESSORS.build("truncate", {"connect": ""})
    (result,) = await rule.compress(text_chain("a b c d e f. g h"), [3], tools(Script()))
    assert (result.think, result.reason) == ("", "too_short")
    (result,) = await rule.compress(text_chain(), [4], tools(Script("\\boxed{42}")))
    assert (result.think, result.reason) == ("One two three.", "")
    (result,) = await rule.compress(text_chain(), [7], tools(Script()))
    assert (result.think, result.reason) == ("One two three. Four five", "too_short")


async def test_ratios_cut_at_shares_of_the_chain_and_tell_the_budget():
    rule = COMPRESSORS.build("truncate", {"ratios": [1, 0.5, 0.25], "connect": "", "low": 0.5})
    writer = Script("\\boxed{42}", "\\boxed{42}")
    # 12 words: cuts at 3 and 6, which belong to 4 and 8; the whole chain to 16.
    results = await rule.compress(text_chain(), [4, 8, 16, 32], tools(writer))
    assert [(r.budget, len(r.think.split()), r.reason, r.attempts) for r in results] == [
        (4, 3, "", 1),
        (8, 5, "", 1),
        (16, 12, "", 0),
        (32, 0, "other_budget", 0),
    ]
    # Both fall to one budget: the longer one counts. What fits none is left out.
    rule = COMPRESSORS.build("truncate", {"ratios": [0.3, 0.5, 1.0], "connect": "", "low": 0.5})
    results = await rule.compress(text_chain(), [8], tools(Script("\\boxed{42}")))
    assert [len(r.think.split()) for r in results] == [5]


# acceptance


def test_acceptance_by_budget():
    results = [
        (Compressed(100, "x", "y", "", 2), 90),
        (Compressed(100, "x", "y", "", 0), 100),
        (Compressed(100, "x", "y", Reason.TOO_LONG, 4), 150),
        (Compressed(100, reason="wrong_answer", attempts=4), 0),
        (Compressed(50, reason="failed", attempts=1), 0),
        (Compressed(200, reason="other_budget"), 0),
        (Compressed(100, "x", "y", Reason.SPARE, 2), 95),
    ]
    assert json.loads(json.dumps(AcceptanceTable.of(results).to_json())) == {
        "50": {
            "requested": 1,
            "accepted": 0,
            "share": 0.0,
            "reasons": {"failed": 1},
            "mean_attempts": 1.0,
            "mean_tokens": None,
            "mean_error": None,
            "spare": 0,
        },
        "100": {
            "requested": 4,
            "accepted": 2,
            "share": 0.5,
            "reasons": {"too_long": 1, "wrong_answer": 1},
            "mean_attempts": 2.5,
            "mean_tokens": 95.0,
            "mean_error": 0.05,
            "spare": 1,
        },
    }
