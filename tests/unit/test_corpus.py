"""The corpora: lengths, budgets, mixture, round trip, sequences."""

import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from bard_ray.budget.signal import NO_BUDGET, token_limit
from bard_ray.config.schema import (
    BudgetConfig,
    ChainConfig,
    DataConfig,
    DistilConfig,
    RowsConfig,
    StudentConfig,
    TinyModelConfig,
)
from bard_ray.data.chain import chain_of, gold_think
from bard_ray.data.prompt import load_prompt_format
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.distill.corpus import (
    budget_corpus,
    gold_corpus,
    read_corpus,
    to_sequences,
    write_corpus,
)
from bard_ray.errors import ConfigError, DataError

BUDGET = BudgetConfig(train=[4, 5, 8, 16, 24, 30], none_share=0.05)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    write_tiny_model(path, TinyModelConfig(), ChainConfig(), seed=0, max_len=128)
    return load_prompt_format(str(path), StudentConfig(), "digits")


@pytest.fixture(scope="module")
def corpus(prompts):
    return budget_corpus(DataConfig(), BUDGET, DistilConfig(questions=300), 0, prompts.count_tokens)


def words(texts):
    return [len(text.split()) for text in texts]


def test_contrastive_corpus_has_every_question_at_four_different_budgets(corpus, prompts):
    by_question = defaultdict(list)
    for row in corpus:
        by_question[row.question.id].append(row)
    budgeted = {k: rows for k, rows in by_question.items() if rows[0].budget != NO_BUDGET}
    assert len(budgeted) == 300
    for rows in budgeted.values():
        assert len({row.budget for row in rows}) == len(rows) == 4
    lengths = prompts.count_tokens([row.think for row in corpus])
    for row, length in zip(corpus, lengths, strict=True):
        num_ops = len(chain_of(row.question).ops)
        if row.budget == NO_BUDGET:
            assert length == 3 * num_ops
        else:
            low, high = round(0.85 * row.budget.tokens), round(1.15 * row.budget.tokens)
            assert min(low, 3 * num_ops) <= length <= min(high, 3 * num_ops)
        assert row.answer_text == f"\\boxed{{{row.question.answer}}}"
        assert row.think.endswith(row.question.answer)


def test_unconstrained_rows_have_their_share_and_are_gold_and_mixed_in(corpus):
    places = [place for place, row in enumerate(corpus) if row.budget == NO_BUDGET]
    assert len(corpus) == 1200 + 63
    assert len(places) == 63  # 63 / 1263 = 5 %
    assert places[0] < 200
    assert places[-1] > 1000
    assert all(
        corpus[place].think == gold_think(chain_of(corpus[place].question)) for place in places
    )


def test_the_corpus_follows_from_the_seed(corpus):
    def build(seed):
        return budget_corpus(DataConfig(), BUDGET, DistilConfig(questions=300), seed, words)

    assert build(0) == corpus
    assert build(1) != corpus


def test_without_contrast_each_question_has_one_budget_that_grows_with_its_length():
    distil = DistilConfig(questions=300, contrastive=False)
    rows = [
        r for r in budget_corpus(DataConfig(), BUDGET, distil, 0, words) if r.budget != NO_BUDGET
    ]
    assert len(rows) == 1200 == len({row.question.id for row in rows})
    by_length = defaultdict(list)
    for row in rows:
        by_length[len(chain_of(row.question).ops)].append(token_limit(row.budget) or 0)
    means = [np.mean(by_length[n]) for n in range(10, 15)]
    assert means == sorted(means)
    assert means[0] < 6
    assert means[-1] > 23
    counts = Counter(token_limit(row.budget) for row in rows)
    # 200 each expected: coverage stays even.
    assert all(140 < counts[b] < 260 for b in BUDGET.train)


def test_gold_corpora(prompts):
    base = gold_corpus(DataConfig(), 50, 0, "base")
    full = gold_corpus(DataConfig(), 50, 0, "sft_full")
    for rows, shortest in ((base, 4), (full, 10)):
        assert len(rows) == 50
        assert {row.budget for row in rows} == {NO_BUDGET}
        assert all(row.think == gold_think(chain_of(row.question)) for row in rows)
        assert min(len(chain_of(row.question).ops) for row in rows) == shortest
    with pytest.raises(ConfigError, match=r"base\.rows"):
        gold_corpus(DataConfig(), 0, 0, "base")


@pytest.fixture
def rows_data(tmp_path):
    """Three training questions with chains of 3, 6 and 40 words, 6 and 7, none; one held-out
    question.
    """
    thinks = [("q0", 3), ("q0", 6), ("q0", 40), ("q1", 6), ("q1", 7), ("q2", 1), ("q3", 2)]
    path = tmp_path / "set.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": q, "question": f"{q}?", "answer": "1", "think": " ".join(["w"] * n)})
            + "\n"
            for q, n in thinks
        )
    )
    return DataConfig(source="rows", rows=RowsConfig(path=str(path)), eval_questions=1)


def summary(rows):
    return sorted(
        (row.question.id, getattr(row.budget, "tokens", 0), len(row.think.split())) for row in rows
    )


def test_hindsight_labels_natural_chains(rows_data):
    budget = BudgetConfig(train=[4, 8], none_share=0.0)
    distil = DistilConfig(compressor="hindsight", questions=10)
    rows = budget_corpus(rows_data, budget, distil, 0, words)
    # q1's second chain falls to the same budget as its first; the held-out q3 is not there.
    assert summary(rows) == [("q0", 0, 40), ("q0", 4, 3), ("q0", 8, 6), ("q1", 8, 6), ("q2", 4, 1)]
    distil.contrastive = False
    rows = budget_corpus(rows_data, budget, distil, 0, words)
    assert summary(rows) == [("q0", 4, 3), ("q1", 8, 6), ("q2", 4, 1)]


def test_hindsight_adds_the_share_of_unconstrained_rows(rows_data):
    budget = BudgetConfig(train=[4, 8, 64], none_share=0.5)
    rows = budget_corpus(rows_data, budget, DistilConfig(compressor="hindsight"), 0, words)
    assert Counter(row.budget == NO_BUDGET for row in rows) == {True: 5, False: 5}


def test_gold_rows_of_a_data_set_take_first_chains_first(rows_data):
    def order(n):
        return [
            (r.question.id, len(r.think.split())) for r in gold_corpus(rows_data, n, 0, "sft_full")
        ]

    assert order(4) == [("q0", 3), ("q1", 6), ("q2", 1), ("q0", 6)]
    assert len(order(0)) == 6


def test_written_corpus_reads_back_whole(tmp_path, corpus, rows_data):
    path = tmp_path / "sft.jsonl"
    write_corpus(path, corpus)
    assert read_corpus(path) == corpus
    odd = gold_corpus(rows_data, 1, 0, "sft_full")[0]
    odd = type(odd)(odd.question, NO_BUDGET, "line\u2028break\nand é", odd.answer_text)
    write_corpus(path, [odd])
    assert read_corpus(path) == [odd]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_failed_write_leaves_the_old_corpus(tmp_path, corpus):
    path = tmp_path / "sft.jsonl"
    write_corpus(path, corpus[:3])

    def interrupted():
        yield corpus[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corpus(path, interrupted())
    assert read_corpus(path) == corpus[:3]


@pytest.mark.parametrize("text", ["{", "{}\n", '{"id": "q"}\n', "[]\n"])
def test_a_damaged_corpus_names_the_line(tmp_path, text):
    path = tmp_path / "sft.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match="line 1 is no corpus row"):
        read_corpus(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_corpus(tmp_path / "gone.jsonl")


def test_sequences_train_on_the_completion_only(corpus, prompts):
    sequences, dropped = to_sequences(corpus[:50], prompts, max_len=128)
    assert (len(sequences), dropped) == (50, 0)
    for row, sequence in zip(corpus, sequences, strict=False):
        assert prompts.decode(sequence.tokens_T[~sequence.mask_T]) == prompts.prompt_text(
            row.question, row.budget
        )
        trained = sequence.tokens_T[sequence.mask_T]
        assert prompts.decode(trained) == f"{row.think}</think>{row.answer_text}"
        assert trained[-1] == prompts.eos_id
        assert not sequence.mask_T[0]
        assert (np.diff(sequence.mask_T.astype(int)) >= 0).all()


def test_rows_that_are_too_long_are_dropped_whole_and_counted(corpus, prompts):
    everything, _ = to_sequences(corpus, prompts, max_len=128)
    lengths = [sequence.tokens_T.size for sequence in everything]
    kept, dropped = to_sequences(corpus, prompts, max_len=50)
    assert 0 < dropped == sum(length > 50 for length in lengths)
    assert [s.tokens_T.size for s in kept] == [length for length in lengths if length <= 50]
    with pytest.raises(ConfigError, match=r"student\.max_len"):
        to_sequences(corpus, prompts, max_len=10)


def test_a_budget_beyond_two_digits_is_named_when_rows_are_tokenised(prompts):
    budget = BudgetConfig(train=[100])
    distil = DistilConfig(questions=2, budgets_per_question=1)
    rows = budget_corpus(DataConfig(), budget, distil, 0, prompts.count_tokens)
    with pytest.raises(ConfigError, match=r"budget\.codec"):
        to_sequences(rows, prompts, max_len=128)


@pytest.mark.parametrize(
    ("budget", "distil", "field"),
    [
        ({"train": []}, {}, "budget.train"),
        ({"train": [1, 4, 8, 9]}, {}, "budget.train"),
        ({"train": [4, 8]}, {}, "distil.budgets_per_question"),
        ({}, {"budgets_per_question": 0}, "distil.budgets_per_question"),
        ({}, {"questions": 0}, "distil.questions"),
        ({}, {"jitter": 1.0}, "distil.jitter"),
        ({"none_share": 1.0}, {}, "budget.none_share"),
    ],
)
def test_a_wrong_setting_is_named(budget, distil, field):
    with pytest.raises(ConfigError) as caught:
        budget_corpus(
            DataConfig(),
            BudgetConfig(**{"train": [4, 8, 9, 12]} | budget),
            DistilConfig(**distil),
            0,
            words,
        )
    assert caught.value.field == field


def test_steps_of_a_data_set_cannot_be_dropped(rows_data):
    with pytest.raises(ConfigError, match="hindsight"):
        budget_corpus(rows_data, BUDGET, DistilConfig(), 0, words)
