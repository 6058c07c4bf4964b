"""Sentences of a chain and their log-probs, under one tokenizer and under two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bard_ray.config.schema import ChainConfig, StudentConfig, TinyModelConfig
from bard_ray.data.prompt import load_prompt_format
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.distill.build_steps import apply_filter
from bard_ray.distill.filter import FILTERS, Candidate, FilterContext
from bard_ray.distill.likelihood import aligned_ends, broadcast_means, sentence_boundaries
from bard_ray.distill.step import STEPS, StepTools
from bard_ray.errors import ConfigError, DataError
from bard_ray.records import NO_BUDGET, Message, Question, TokenBudget

STEPS_OF_CHAIN = r"(?=[a-z])"
DEFAULT = r"\n+|(?<=[.!?])\s+"


def ints(*values):
    return np.array(values, np.int32)


def test_sentences_end_after_full_stops_and_lines():
    text = "So x = 3.5. Is it?\n\nYes"
    ends = sentence_boundaries(text, DEFAULT)
    assert [text[a:b] for a, b in zip([0, *ends], ends, strict=False)] == [
        "So x = 3.5. ",
        "Is it?\n\n",
        "Yes",
    ]
    assert sentence_boundaries("a+19b*37", STEPS_OF_CHAIN) == [4, 8]
    assert sentence_boundaries("one", DEFAULT) == [3]


def test_a_token_belongs_to_the_sentence_in_which_it_ends():
    # "Hi. Yo" as Hi | . | _Yo and as Hi. | _ | Yo
    assert aligned_ends([4, 6], ints(2, 3, 6), ints(3, 4, 6)) == ([2, 3], [2, 3])
    # One tokenizer has a token over three sentences: they are one under both.
    assert aligned_ends([2, 4, 6, 8], ints(2, 7, 8), ints(1, 2, 3, 4, 6, 8)) == (
        [1, 3],
        [2, 6],
    )
    assert aligned_ends([2, 4], ints(4), ints(1, 2, 3, 4)) == ([1], [4])


def test_the_mean_of_a_sentence_is_broadcast_to_other_tokens():
    logprobs_U = np.array([-1, -3, -500, -300], np.float32)
    assert broadcast_means(logprobs_U, [2, 4], [3, 4]).tolist() == [-2, -2, -2, -400]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Student, a teacher that reads alike, one to whom `*3` is two tokens."""
    paths = []
    for name, ops in (("student", ["+1", "*3"]), ("alike", ["+1", "*3"]), ("other", ["+1"])):
        paths.append(str(tmp_path_factory.mktemp(name)))
        write_tiny_model(paths[-1], TinyModelConfig(), ChainConfig(ops=ops), 0, 128)
    return paths


class Policies:
    """One reference worker for all models, as `StepTools.reference` may be: the last one is
    loaded. Token t has log-prob -t / 10 under the student, -t / 20 under others.
    """

    def __init__(self):
        self.loaded, self.sizes, self.sequences = None, [], {}

    async def logprobs(self, sequences, temperature):
        assert temperature == 1.0
        self.sizes.append(sum(s.size for s in sequences))
        self.sequences.setdefault(self.loaded, []).extend(sequences)
        scale = 10 if self.loaded == "" else 20
        return [-np.arange(s.size, dtype=np.float32) / scale for s in sequences]


def tools(student_path, policies):
    async def reference(path):
        policies.loaded = path
        return policies

    nothing: dict[str, Any] = dict.fromkeys(
        ("teacher_name", "train_budgets", "context", "teacher", "student", "verifier")
    )
    prompts = load_prompt_format(student_path, StudentConfig(), "digits")
    return StepTools(seed=0, prompts=prompts, reference=reference, **nothing)


def record(with_tools, think="a+19b*37", item_id="q", budget=NO_BUDGET):
    question = Question(item_id, (Message("user", "8a+1b*3?"),), "7", "integer")
    ((tokens_T, _),) = with_tools.prompts.token_ends([think])
    return Candidate(question, think, "7", tokens_T, budget)


async def run(with_tools, teacher, records, **params):
    step = STEPS.build("likelihoods", {"teacher": teacher, "boundary": STEPS_OF_CHAIN, **params})
    return await step.run(records, with_tools)


async def test_each_model_sees_the_thinking_after_its_own_prompt(models):
    policies = Policies()
    given = tools(models[0], policies)
    ((done, reason),) = await run(given, models[1], [record(given, budget=TokenBudget(12))])
    assert reason == ""
    read = {path: given.prompts.decode(s[0]) for path, s in policies.sequences.items()}
    assert read == {
        "": "8a+1b*3?<budget>12</budget><think>a+19b*37",
        models[1]: "8a+1b*3?<think>a+19b*37",
    }
    start = {path: s[0].size - 6 for path, s in policies.sequences.items()}
    assert done.sentence_ends == (3, 6)
    expected = [-(start[""] + t) / 10 for t in range(6)]
    assert done.student_logprobs_T.tolist() == pytest.approx(expected)
    expected = [-(start[models[1]] + t) / 20 for t in range(6)]
    assert done.teacher_logprobs_T.tolist() == pytest.approx(expected)


async def test_under_another_tokenizer_a_sentence_has_its_own_mean(models):
    policies = Policies()
    given = tools(models[0], policies)
    ((done, _),) = await run(given, models[2], [record(given)])
    (sequence,) = policies.sequences[models[2]]
    first = sequence.size - 7  # a +1 9 | b * 3 7
    means = [-(first + 1) / 20, -(first + 4.5) / 20]
    assert done.sentence_ends == (3, 6)
    assert done.teacher_logprobs_T.tolist() == pytest.approx([means[0]] * 3 + [means[1]] * 3)


async def test_the_output_can_be_filtered_by_divergence(models):
    given = tools(models[0], Policies())
    records = [record(given, think) for think in ("a+19b*37", "a9b7", "a+19")]
    results = await run(given, models[2], records)
    plugin = FILTERS.build("divergence", {"keep": 1, "margin": 0.0})
    reasons = [
        reason for _, reason in apply_filter(plugin, [r for r, _ in results], FilterContext())[0]
    ]
    assert sorted(reasons) == ["", "little_to_learn", "little_to_learn"]


async def test_calls_are_bounded_in_tokens_and_lose_nothing(models):
    thoughts = ["a+19b*37", "a9b7", "a+19", "b*37", "a9"] * 3
    whole, parts = Policies(), Policies()
    given = tools(models[0], whole)
    records = [record(given, think, f"q{n}") for n, think in enumerate(thoughts)]
    at_once = await run(given, models[1], records)
    in_parts = await run(tools(models[0], parts), models[1], records, batch_tokens=40)
    assert len(whole.sizes) == 2
    assert len(parts.sizes) > 8
    assert max(parts.sizes) <= 40
    for (one, _), (other, _) in zip(at_once, in_parts, strict=True):
        assert one.teacher_logprobs_T.tolist() == other.teacher_logprobs_T.tolist()
        assert one.student_logprobs_T.tolist() == other.student_logprobs_T.tolist()


async def test_chains_that_cannot_be_scored_are_dropped_with_a_reason(models):
    policies = Policies()
    given = tools(models[0], policies)
    records = [record(given, think) for think in ("", "a9b7" * 9, "a9")]
    results = await run(given, models[1], records, max_tokens=20)
    assert [reason for _, reason in results] == ["no_thought", "too_long", ""]
    assert results[0][0].sentence_ends == ()
    assert [len(s) for s in policies.sequences.values()] == [1, 1]
    assert await run(given, models[1], []) == []


async def test_tokens_of_another_text_are_refused(models):
    given = tools(models[0], Policies())
    wrong = record(given)
    wrong = Candidate(wrong.question, "a9b7", "7", wrong.tokens_T)
    with pytest.raises(DataError, match="tokens are not those"):
        await run(given, models[1], [wrong])


async def test_parameters_that_do_not_fit_are_refused(models, tmp_path):
    with pytest.raises(ConfigError, match="no regular expression"):
        STEPS.build("likelihoods", {"teacher": "t", "boundary": "("})
    given = tools(models[0], Policies())
    with pytest.raises(ConfigError, match=r"distill\.teachers = .*no tokenizer"):
        await run(given, str(tmp_path), [record(given)])
