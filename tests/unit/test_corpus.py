"""The corpora: mixture, order, round trip, sequences; and the sources they begin with."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bard_ray.config.schema import (
    ChainConfig,
    DataConfig,
    RowsConfig,
    StudentConfig,
    TinyModelConfig,
)
from bard_ray.data.chain import chain_of, chain_question, gold_think
from bard_ray.data.prompt import load_prompt_format
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.distill.corpus import (
    base_corpus,
    budget_corpus,
    natural_corpus,
    read_corpus,
    to_sequences,
    write_corpus,
)
from bard_ray.distill.source import question_record, record_source
from bard_ray.errors import ConfigError, DataError
from bard_ray.records import NO_BUDGET, TokenBudget


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    write_tiny_model(path, TinyModelConfig(), ChainConfig(), seed=0, max_len=128)
    return load_prompt_format(str(path), StudentConfig(), "digits")


@pytest.fixture(scope="module")
def natural():
    questions = [chain_question(ChainConfig(), 0, "train", index) for index in range(300)]
    return [
        replace(
            question_record(q), think=gold_think(chain_of(q)), answer_text=f"\\boxed{{{q.answer}}}"
        )
        for q in questions
    ]


@pytest.fixture(scope="module")
def compressed(natural):
    """Every chain at four budgets; that they are not really shorter does not matter here."""
    return [replace(r, budget=TokenBudget(b)) for r in natural for b in (4, 8, 16, 24)]


@pytest.fixture(scope="module")
def corpus(natural, compressed):
    return budget_corpus(compressed, natural, 0.05, 0)


def test_unconstrained_rows_have_their_share_and_are_natural_and_mixed_in(corpus):
    places = [place for place, row in enumerate(corpus) if row.budget == NO_BUDGET]
    assert len(corpus) == 1200 + 63
    assert len(places) == 63  # 63 / 1263 = 5 %
    assert places[0] < 200
    assert places[-1] > 1000
    assert len({corpus[place].question.id for place in places}) == 63
    assert all(
        corpus[place].think == gold_think(chain_of(corpus[place].question)) for place in places
    )


def test_the_corpus_follows_from_the_seed(compressed, natural, corpus):
    assert budget_corpus(compressed, natural, 0.05, 0) == corpus
    assert budget_corpus(compressed, natural, 0.05, 1) != corpus


def test_there_are_no_more_unconstrained_rows_than_natural_chains(compressed, natural):
    rows = budget_corpus(compressed[:4], natural[:2], 0.9, 0)
    assert Counter(row.budget == NO_BUDGET for row in rows) == {False: 4, True: 2}
    none = budget_corpus(compressed[:4], natural, 0.0, 0)
    assert all(row.budget != NO_BUDGET for row in none)


def test_a_corpus_without_chains_says_where_to_look(natural):
    with pytest.raises(DataError, match="no chain is left after the last step"):
        budget_corpus([], natural, 0.05, 0)


def test_natural_corpus_is_the_first_chains_without_budgets(natural):
    rows = natural_corpus(natural, 3)
    assert [row.question.id for row in rows] == [r.question.id for r in natural[:3]]
    assert {row.budget for row in rows} == {NO_BUDGET}
    assert len(natural_corpus(natural, 0)) == len(natural)


def test_base_corpus_has_short_chains_too():
    rows = base_corpus(DataConfig(), 50, 0)
    assert len(rows) == 50
    assert {row.budget for row in rows} == {NO_BUDGET}
    assert all(row.think == gold_think(chain_of(row.question)) for row in rows)
    assert min(len(chain_of(row.question).ops) for row in rows) == 4
    with pytest.raises(ConfigError, match=r"base\.rows"):
        base_corpus(DataConfig(), 0, 0)


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


def test_base_rows_of_a_data_set_take_first_chains_first(rows_data):
    def order(n):
        return [(r.question.id, len(r.think.split())) for r in base_corpus(rows_data, n, 0)]

    assert order(4) == [("q0", 3), ("q1", 6), ("q2", 1), ("q0", 6)]
    assert len(order(0)) == 6


def test_written_corpus_reads_back_whole(tmp_path, corpus, rows_data):
    path = tmp_path / "sft.jsonl"
    write_corpus(path, corpus)
    assert read_corpus(path) == corpus
    odd = base_corpus(rows_data, 1, 0)[0]
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


def test_long_chains_are_tokenized_few_at_a_time(prompts, corpus, monkeypatch):
    """A tokenizer takes about a hundred bytes a token: all of a long corpus would not fit."""
    together = []
    row_ids = type(prompts).row_ids

    def noted(self, rows):
        together.append(len(rows))
        return row_ids(self, rows)

    monkeypatch.setattr(type(prompts), "row_ids", noted)
    rows = [replace(row, think=row.think[:2] * 300_000) for row in corpus[:4]]
    sequences, dropped = to_sequences([*corpus, *rows], prompts, max_len=2_000_000)
    assert together[1:] == [2]  # 600,000 characters each; the first two end the batch before
    assert sum(together) == len(sequences) == len(corpus) + 4
    assert dropped == 0


def test_rows_that_are_too_long_are_dropped_whole_and_counted(corpus, prompts):
    everything, _ = to_sequences(corpus, prompts, max_len=128)
    lengths = [sequence.tokens_T.size for sequence in everything]
    kept, dropped = to_sequences(corpus, prompts, max_len=70)
    assert 0 < dropped == sum(length > 70 for length in lengths)
    assert [s.tokens_T.size for s in kept] == [length for length in lengths if length <= 70]
    with pytest.raises(ConfigError, match=r"student\.max_len"):
        to_sequences(corpus, prompts, max_len=10)


def test_a_budget_beyond_two_digits_is_named_when_rows_are_tokenized(prompts, corpus):
    rows = [replace(corpus[0], budget=TokenBudget(100))]
    with pytest.raises(ConfigError, match=r"budget\.codec"):
        to_sequences(rows, prompts, max_len=128)


def test_a_source_gives_questions_of_the_task_or_chains_of_a_data_set(prompts, rows_data):
    task = list(record_source(DataConfig(), 3, 0, prompts, chains=True).read())
    assert [(r.question.id, r.think) for r in task] == [(f"chain-train-{i}", "") for i in range(3)]
    source = record_source(rows_data, 2, 0, prompts, chains=True)
    assert source.questions == 2
    assert [(r.question.id, len(r.think.split())) for r in source.read()] == [
        ("q0", 3), ("q0", 6), ("q0", 40), ("q1", 6), ("q1", 7),
    ]  # fmt: skip


def test_a_source_for_a_teacher_needs_no_chains(tmp_path, prompts):
    path = tmp_path / "bare.jsonl"
    path.write_text('{"id": "q0", "question": "1+1?", "answer": "2"}\n' * 1)
    data = DataConfig(source="rows", rows=RowsConfig(path=str(path), eval_path=str(path)))
    (record,) = record_source(data, 9, 0, prompts, chains=False).read()
    assert (record.question.answer, record.think, record.tokens_T.size) == ("2", "", 0)
    with pytest.raises(DataError, match="has no column 'think'"):
        record_source(data, 9, 0, prompts, chains=True)


def test_the_key_of_a_source_follows_from_its_content(prompts, rows_data):
    def key(questions=2, chains=False):
        return record_source(rows_data, questions, 0, prompts, chains=chains).key

    before = key()
    assert key() == before
    assert key(3) != before
    assert key(chains=True) != before
    with open(rows_data.rows.path, "a") as file:
        file.write(json.dumps({"id": "q9", "question": "9?", "answer": "1"}) + "\n")
    assert key() != before


def test_chains_under_another_tokenizer_are_another_source(tmp_path, prompts, rows_data):
    path = tmp_path / "other"
    write_tiny_model(path, TinyModelConfig(), ChainConfig(ops=["+1"]), seed=0, max_len=128)
    other = load_prompt_format(str(path), StudentConfig(), "digits")

    def keys(chains):
        return {record_source(rows_data, 2, 0, p, chains=chains).key for p in (prompts, other)}

    assert len(keys(chains=True)) == 2
    assert len(keys(chains=False)) == 1  # questions alone have no tokens
