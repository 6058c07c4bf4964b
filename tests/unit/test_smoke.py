"""The choice of a teacher: students that learn what their corpus holds, and who is chosen."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from bard_ray.budget.codec import DigitsCodec
from bard_ray.config.schema import (
    ChainConfig,
    DataConfig,
    EvalConfig,
    RowsConfig,
    SFTConfig,
    SmokeConfig,
)
from bard_ray.data.chain import chain_question
from bard_ray.data.prompt import PromptFormat
from bard_ray.data.questions import eval_questions, smoke_questions
from bard_ray.data.tiny_model import make_tokenizer
from bard_ray.distill.choice import (
    Answer,
    TeacherChoice,
    answers_by_question,
    score,
    within_budget,
)
from bard_ray.distill.smoke import SmokeRoles, SmokeSpec, choose_teacher, smoke_plan, smoke_sft
from bard_ray.errors import ConfigError, InfrastructureError
from bard_ray.records import (
    DistillRow,
    Failure,
    FailureKind,
    Group,
    GroupRequest,
    Message,
    Outcome,
    Question,
    Rollout,
    StepStats,
    TokenBudget,
    Verdict,
    token_limit,
)
from bard_ray.roles import Published

PROMPTS = PromptFormat(make_tokenizer(["+1", "*3"], 128), DigitsCodec(), "<think>", "</think>")
DATA = DataConfig(chain=ChainConfig())
BUDGETS = (10, 20)


def corpus(rows, wrong=0.0, over=0, seed=0, split="train"):
    """Rows of a teacher that is wrong at times and thinks `over` tokens more than asked."""
    generator = np.random.default_rng(seed)
    made = []
    for index in range(rows):
        question = chain_question(DATA.chain, 0, split, index)
        budget = BUDGETS[index % 2]
        answer = question.answer if generator.random() >= wrong else "none"
        answer = answer if answer != "none" else str((int(question.answer) + 1) % 10)
        think = "a1" * ((budget + over) // 2)
        made.append(DistillRow(question, TokenBudget(budget), think, f"\\boxed{{{answer}}}"))
    return made


class HonestLearner:
    """Learns how often its corpus is right, and by how much its chains miss the budget."""

    def __init__(self, corpora):
        self.truth = {}
        for row in [row for rows in corpora.values() for row in rows]:
            prompt = PROMPTS.prompt_ids(row.question, row.budget)
            self.truth[prompt.tobytes()] = (row.question.answer, token_limit(row.budget))
        self.begun, self.steps, self.lrs, self.exported = [], [], [], []

    async def begin(self, init_path, optim):
        self.begun.append((init_path, optim))
        self.seen = []
        self.steps.append(0)

    async def step(self, sequences, loss, lr):
        assert loss.kind == "nll"
        self.steps[-1] += 1
        self.lrs.append(lr)
        for sequence in sequences:
            prompt, completion = (
                sequence.tokens_T[~sequence.mask_T],
                sequence.tokens_T[sequence.mask_T],
            )
            gold, budget = self.truth[prompt.tobytes()]
            close = completion.tolist().index(PROMPTS.close_id)
            right = f"\\boxed{{{gold}}}" == PROMPTS.decode(completion[close + 1 :])
            self.seen.append((right, close - budget))
        return StepStats({"sft/loss": 1.0, "sft/tokens": 1.0})

    async def publish(self):
        return Published(tuple(np.mean(self.seen, axis=0)), ("w",), 1)

    async def export(self, path):
        os.mkdir(path)
        self.exported.append(path)

    async def save(self, path):
        raise AssertionError

    async def restore(self, path, optim):
        raise AssertionError


class Student:
    """Answers as its weights say: right with their share, off the budget by their overrun."""

    def __init__(self, fail=lambda version, request: ""):
        self.versions, self.fail, self.asked = [], fail, []

    async def publish(self, weights, version):
        self.weights = weights.handle
        self.versions.append(version)
        return 0.0

    async def load(self, path, version):
        raise AssertionError

    async def abort(self, numbers):
        raise AssertionError

    async def sample(self, requests, spec):
        self.asked.append({(r.question.id, r.budgets) for r in requests})
        share, over = self.weights
        for request in reversed(requests):
            reason = self.fail(self.versions[-1], request)
            generator = np.random.default_rng([request.seed, self.versions[-1]])
            text = request.question.answer if generator.random() < share else "wrong"
            rollouts = tuple(
                Rollout(b, (), "stop", round(token_limit(b) + over), closed=True, answer_text=text)
                for b in request.budgets
            )
            yield (
                Group(request, failure=Failure(FailureKind.WORKER_LOST, reason))
                if reason
                else Group(request, rollouts)
            )


class Grader:
    async def grade(self, items):
        return [Verdict(Outcome.CORRECT if i.text == i.gold else Outcome.WRONG) for i in items]


class Lab:
    """One smoke test over fakes."""

    def __init__(self, corpora, questions=64, reference=None, scratch=None, **student):
        self.corpora = corpora
        self.learner, self.sampler = HonestLearner(corpora), Student(**student)
        self.version = 5
        self.roles = SmokeRoles(
            self.learner, self.sampler, Grader(), self.next_version, reference, scratch
        )
        self.spec = SmokeSpec(
            student="untrained",
            prompts=PROMPTS,
            max_len=128,
            sft=SFTConfig(batch_rows=8, epochs=2, lr=0.1, warmup_steps=50),
            questions=tuple(smoke_questions(DATA, 0, questions, [])),
            plan=smoke_plan(EvalConfig(), BUDGETS, seed=3),
            seed=1,
        )
        self.progress = []

    def next_version(self):
        self.version += 1
        return self.version

    async def choose(self):
        return await choose_teacher(
            self.corpora, self.roles, self.spec, lambda *now: self.progress.append(now)
        )


THREE = {
    "sloppy": corpus(64, wrong=0.5),
    "clean": corpus(64),
    "verbose": corpus(64, over=8),
}


async def test_the_teacher_whose_student_is_right_and_within_the_budget_is_chosen():
    choice = await Lab(THREE).choose()
    assert (choice.winner, choice.runner_up, choice.beyond_noise) == ("clean", "sloppy", True)
    sloppy, clean, verbose = choice.candidates
    assert (clean.score, clean.stderr, clean.questions) == (1.0, 0.0, 64)
    assert (verbose.accuracy, verbose.within, verbose.score) == (1.0, 0.0, 0.0)
    assert verbose.by_budget == {"10": 0.0, "20": 0.0}
    assert 0.3 < sloppy.score < 0.7
    assert sloppy.within == 1.0
    assert 0.02 < sloppy.stderr < 0.1


async def test_every_student_starts_from_the_same_weights_and_answers_the_same_questions():
    lab = Lab(THREE)
    await lab.choose()
    assert [path for path, _ in lab.learner.begun] == ["untrained"] * 3
    assert lab.sampler.asked[0] == lab.sampler.asked[1] == lab.sampler.asked[2]
    assert len(lab.sampler.asked[0]) == 64 * 2
    assert lab.sampler.versions == [6, 7, 8]
    assert [done for done, _, _ in lab.progress] == list(range(6))


async def test_a_smaller_corpus_is_read_more_often_not_trained_less():
    lab = Lab({"much": corpus(64), "little": corpus(12, seed=1)})
    choice = await lab.choose()
    assert lab.learner.steps == [16, 16]
    assert [(c.rows, c.steps) for c in choice.candidates] == [(64, 16), (12, 16)]


async def test_the_warm_up_is_shortened_with_the_stage():
    lab = Lab({"one": corpus(64)})
    await lab.choose()
    assert max(lab.learner.lrs) == pytest.approx(0.1)
    assert lab.learner.lrs.index(max(lab.learner.lrs)) == 1


async def test_candidates_that_cannot_be_tried_lose_with_their_reason():
    long = [replace(row, think="a1" * 80) for row in corpus(20)]
    lab = Lab({"none": [], "few": corpus(7), "long": long, "sloppy": corpus(16, wrong=0.9)})
    choice = await lab.choose()
    assert (choice.winner, choice.runner_up, choice.beyond_noise) == ("sloppy", "", False)
    assert [c.failure for c in choice.candidates] == [
        "it has no rows",
        "its 7 rows do not fill one batch",
        "all of its 20 rows are longer than student.max_len",
        "",
    ]
    assert [c.steps for c in choice.candidates] == [0, 0, 0, 4]
    assert choice.lead is None


async def test_no_candidate_at_all_is_the_users_mistake():
    with pytest.raises(ConfigError, match=r"distill\.teachers.*a: it has no rows"):
        await Lab({"a": [], "b": corpus(3)}).choose()


async def test_ties_go_to_the_student_with_fewer_tokens_then_to_the_first_candidate():
    shorter = {"full": corpus(64), "shorter": corpus(64, over=-4)}
    choice = await Lab(shorter).choose()
    assert (choice.winner, choice.lead, choice.beyond_noise) == ("shorter", 0.0, False)
    same = {"second": corpus(64), "first": corpus(64)}
    assert (await Lab(same).choose()).winner == "second"


async def test_a_small_lead_is_not_beyond_the_noise():
    close = {"a": corpus(64, wrong=0.30, seed=4), "b": corpus(64, wrong=0.30, seed=5)}
    choice = await Lab(close, questions=16).choose()
    assert choice.lead > 0
    assert choice.lead < 2 * choice.lead_stderr
    assert not choice.beyond_noise


async def test_questions_that_were_not_answered_at_all_budgets_are_left_out_of_the_comparison():
    def fail(version, request):
        return "lost" if version == 6 and request.number < 11 else ""

    choice = await Lab({"a": corpus(64, wrong=0.2), "b": corpus(64)}, fail=fail).choose()
    assert [c.questions for c in choice.candidates] == [58, 64]
    assert choice.winner == "b"
    assert choice.lead == pytest.approx(1 - choice.candidates[0].score)


async def test_a_student_that_could_not_be_sampled_loses():
    choice = await Lab(
        {"a": corpus(64), "b": corpus(64, wrong=0.9)},
        fail=lambda version, request: "lost" if version == 6 else "",
    ).choose()
    assert choice.winner == "b"
    assert choice.candidates[0].failure == "no question was sampled and graded"
    with pytest.raises(InfrastructureError, match="no teacher can be chosen"):
        await Lab({"a": corpus(64)}, fail=lambda version, request: "lost").choose()


async def test_the_choice_repeats_exactly_and_survives_json():
    first, again = await Lab(THREE).choose(), await Lab(THREE).choose()
    assert first == again
    assert TeacherChoice.from_json(json.loads(json.dumps(first.to_json()))) == first


class TellingReference:
    """States of a text follow from its length, moved by what was loaded."""

    def __init__(self):
        self.paths = []

    async def load(self, path):
        self.paths.append(path)

    async def logprobs(self, sequences, temperature):
        return [np.where(np.arange(s.size) > 0, -0.5, 0).astype(np.float32) for s in sequences]

    async def states(self, sequences):
        moved = 0.0 if self.paths[-1] == "untrained" else float(len(self.paths) - 1)
        return [np.array([s.size + moved, i % 3, 0], np.float32) for i, s in enumerate(sequences)]


async def test_diagnostics_stand_beside_the_choice(tmp_path):
    reference = TellingReference()
    lab = Lab({**THREE, "empty": []}, reference=reference, scratch=tmp_path)
    choice = await lab.choose()
    found = {c.name: c.diagnostics for c in choice.candidates}
    assert found["empty"] is None
    assert found["clean"].lengths.mean == 15.0
    assert found["verbose"].lengths.mean == 23.0
    assert found["clean"].nll == pytest.approx(0.5)
    # "a1a1...": every token but the first is certain
    assert found["clean"].entropy == pytest.approx(0.0, abs=1e-9)
    assert found["sloppy"].shift < found["clean"].shift < found["verbose"].shift
    assert reference.paths == ["untrained", *lab.learner.exported]
    assert list(tmp_path.iterdir()) == []  # weights are large


async def test_without_a_reference_worker_entropy_and_lengths_are_left():
    choice = await Lab(THREE).choose()
    found = choice.candidates[1].diagnostics
    assert found.nll is None
    assert found.shift is None
    assert found.entropy is not None


async def test_one_question_is_refused():
    lab = Lab(THREE)
    lab.spec = replace(lab.spec, questions=lab.spec.questions[:1])
    with pytest.raises(ConfigError, match=r"distill\.smoke\.eval_questions"):
        await lab.choose()


def test_the_slack_of_a_budget_is_a_tenth_and_at_least_a_token():
    assert [within_budget(tokens, 30) for tokens in (0, 30, 33, 34)] == [True, True, True, False]
    assert [within_budget(tokens, 4) for tokens in (5, 6)] == [True, False]


def test_the_score_in_numbers():
    right, long, wrong = (
        Answer("8", correct=True, within=True, tokens=8),
        Answer("8", correct=True, within=False, tokens=20),
        Answer("8", correct=False, within=True, tokens=8),
    )
    assert score({"p": [right, long], "q": [right, wrong]}) == 0.5
    assert score({"p": [right, right], "q": [long, wrong]}) == 0.5
    with pytest.raises(ValueError, match="no question"):
        score({})


def test_an_answer_whose_thinking_never_closed_is_wrong_and_a_broken_verdict_is_no_answer():
    question = chain_question(DATA.chain, 0, "smoke", 0)
    request = GroupRequest(0, question, (TokenBudget(8),) * 2, 0)
    rollout = Rollout(TokenBudget(8), (), "length", 8, closed=False, answer_text="")
    group = Group(request, (rollout, rollout), (Verdict(Outcome.CORRECT), Verdict(Outcome.BROKEN)))
    (found,) = answers_by_question([group], 1).values()
    assert not found[0].correct
    assert answers_by_question([group], 2) == {}


def test_the_short_stage_takes_settings_without_a_value_from_the_supervised_one():
    sft = SFTConfig(lr=2e-3, batch_rows=16, epochs=3)
    assert smoke_sft(SmokeConfig(), sft) == replace(sft, epochs=1.0)
    assert smoke_sft(SmokeConfig(lr=1e-4, batch_rows=4), sft).lr == 1e-4


def test_the_sweep_spans_the_taught_budgets():
    plan = smoke_plan(EvalConfig(temperature=0.7, max_new_tokens=99), range(4, 31), seed=2)
    assert [token_limit(b) for b in plan.budgets] == [4, 10, 17, 24, 30]
    assert (plan.spec.temperature, plan.spec.max_new_tokens, plan.seed) == (0.7, 99, 2)
    assert [token_limit(b) for b in smoke_plan(EvalConfig(), [8, 500], 0).budgets] == [8, 500]
    assert [token_limit(b) for b in smoke_plan(EvalConfig(), [8], 0).budgets] == [8]


def test_questions_of_the_synthetic_task_are_held_out_and_not_those_of_the_evaluation():
    data = DataConfig(chain=ChainConfig(min_ops=5, max_ops=7), eval_questions=100)
    questions = smoke_questions(data, 0, 60, [])
    texts = {q.messages[0].content for q in questions}
    assert len(texts) == 60
    assert not texts & {q.messages[0].content for q in eval_questions(data, 0)}
    trained = {
        chain_question(data.chain, 0, split, i).messages[0].content
        for split in ("train", "base", "rl")
        for i in range(800)
    }
    assert not texts & trained
    assert questions == smoke_questions(data, 0, 60, [])


def test_a_task_with_too_few_questions_gives_what_it_has():
    data = DataConfig(chain=ChainConfig(min_ops=1, max_ops=1, base_min_ops=1), eval_questions=1)
    found = smoke_questions(data, 0, 64, [])
    assert 0 < len(found) < 20  # of 20 different questions at all


def test_questions_of_a_data_set_are_in_nobodys_corpus_and_not_in_the_evaluation(tmp_path):
    lines = [{"id": str(i), "question": f"q{i % 30}", "answer": "1"} for i in range(40)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = DataConfig(source="rows", rows=RowsConfig(path=str(path)), eval_questions=10)
    taken = [Question(str(i), (Message("user", f"q{i}"),), "1") for i in range(8)]
    found = smoke_questions(data, 0, 5, taken)
    assert len(found) == 5
    assert {q.id for q in found} <= {str(i) for i in range(8, 30)}
    assert found != smoke_questions(data, 1, 5, taken)
    assert len(smoke_questions(data, 0, 99, taken)) == 22
    everything = [Question(str(i), (Message("user", f"q{i}"),), "1") for i in range(30)]
    with pytest.raises(ConfigError, match=r"distill\.smoke\.questions = 30"):
        smoke_questions(data, 0, 5, everything)
