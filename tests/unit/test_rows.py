"""Teacher chains from data sets: our row format and the OpenR1-Math columns, good and broken."""

import json

import pytest
from datasets import Dataset

from bard_ray.config.schema import DataConfig, RowsConfig
from bard_ray.data.questions import eval_questions, split_rows, training_questions
from bard_ray.data.rows import TeacherChain, load_rows
from bard_ray.errors import ConfigError, DataError

ROW = {
    "id": "q1",
    "question": "What is 1+1?",
    "answer": "2",
    "kind": "integer",
    "think": "One and one.",
}


def openr1_row(**change):
    """One row in the schema of open-r1/OpenR1-Math-220k."""
    row = {
        "problem": "Find $x$ with $x+1=3$.",
        "solution": "Subtract 1 on both sides. $\\boxed{2}$",
        "answer": "2",
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
        "source": "olympiads",
        "uuid": "586fd646-76d6-5070-8c81-9993ab9d8559",
        "is_reasoning_complete": [True, True, False],
        "generations": [
            "<think>\nx is 3-1.\n</think>\n\nSo $\\boxed{2}$.\n",
            "<think>\nx is 3+1.\n</think>\n\nSo $\\boxed{4}$.",
            "<think>\nx is",
        ],
        "correctness_math_verify": [True, False, True],
        "correctness_llama": None,
        "finish_reasons": None,
        "correctness_count": 1,
        "messages": [{"role": "user", "content": "Find $x$ with $x+1=3$."}],
    }
    return row | change


def write_jsonl(path, *rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def write_parquet(path, *rows):
    Dataset.from_list(list(rows)).to_parquet(str(path))
    return str(path)


WRITERS = pytest.mark.parametrize(
    ("write", "name"), [(write_jsonl, "set.jsonl"), (write_parquet, "set.parquet")]
)


@WRITERS
def test_rows_give_questions_and_chains(tmp_path, write, name):
    source = write(tmp_path / name, ROW | {"answer_text": "It is \\boxed{2}."})
    (row,) = load_rows(RowsConfig(path=source))
    question = row.question
    assert (question.id, question.answer, question.kind, question.source) == (
        "q1",
        "2",
        "integer",
        source,
    )
    assert [(m.role, m.content) for m in question.messages] == [("user", "What is 1+1?")]
    assert row.chains == (TeacherChain("One and one.", "It is \\boxed{2}."),)


def test_optional_columns_have_defaults_and_chains_of_one_question_gather(tmp_path):
    bare = {"question": "What is 1+1?", "answer": 2}
    source = write_jsonl(
        tmp_path / "set.jsonl",
        bare | {"think": "a"},
        bare | {"question": "2+2?", "answer": 4, "think": "b"},
        bare | {"think": "<think>c"},
    )
    first, second = load_rows(RowsConfig(path=source))
    assert (first.question.answer, first.question.kind) == ("2", "math")
    assert first.chains == (TeacherChain("a", "\\boxed{2}"), TeacherChain("c", "\\boxed{2}"))
    assert second.chains == (TeacherChain("b", "\\boxed{4}"),)


@WRITERS
def test_openr1_takes_correct_and_complete_generations(tmp_path, write, name):
    source = write(tmp_path / name, openr1_row())
    (row,) = load_rows(RowsConfig(path=source, format="openr1"))
    assert row.question.id == "586fd646-76d6-5070-8c81-9993ab9d8559"
    assert (row.question.answer, row.question.kind) == ("2", "math")
    assert row.question.meta == {"problem_type": "Algebra"}
    assert row.chains == (TeacherChain("\nx is 3-1.\n", "\n\nSo $\\boxed{2}$.", "DeepSeek-R1"),)


def test_openr1_question_without_a_usable_chain_stays_a_question(tmp_path):
    failed = openr1_row(problem="2?", uuid="NaN", correctness_math_verify=[False, False, False])
    unjudged = openr1_row(problem="3?", uuid="NaN", correctness_math_verify=None)
    source = write_jsonl(tmp_path / "set.jsonl", openr1_row(), failed, unjudged)
    rows = load_rows(RowsConfig(path=source, format="openr1"))
    assert [len(row.chains) for row in rows] == [1, 0, 0]
    assert [row.question.id for row in rows[1:]] == ["2?", "3?"]


def test_openr1_generation_without_an_answer_is_no_chain(tmp_path):
    rows = [
        openr1_row(),
        openr1_row(uuid="u2", generations=["<think>x</think>\n", "<think>y", "z"]),
    ]
    source = write_jsonl(tmp_path / "set.jsonl", *rows)
    assert [len(row.chains) for row in load_rows(RowsConfig(path=source, format="openr1"))] == [
        1,
        0,
    ]


BROKEN = [
    (
        "rows",
        {"question": "1+1?", "answer": "2"},
        r"row 2 has no column 'think' \(it has: question, answer\)",
    ),
    ("rows", {"problem": "1+1?"}, "row 2 has no column 'question'"),
    ("rows", ROW | {"id": "q2", "answer": " "}, "row 2 column 'answer' must be text and not blank"),
    ("rows", ROW | {"id": "q2", "answer": ["2"]}, "row 2 column 'answer' must be text"),
    (
        "rows",
        ROW | {"id": "q2", "kind": "essay"},
        "row 2 has the unknown kind 'essay'. Use one of choice, integer",
    ),
    ("rows", ROW | {"id": "q2", "think": "a</think>2"}, "row 2 column 'think' holds </think>"),
    ("rows", ROW | {"question": "Another?"}, "two different questions have the id 'q1'"),
    ("openr1", ROW, "row 2 has no column 'problem'"),
    (
        "openr1",
        openr1_row(correctness_math_verify=[True]),
        "has 3 generations but 1 and 3 judgments",
    ),
    ("openr1", openr1_row(generations="<think>"), "column 'generations' must be a list"),
]


@pytest.mark.parametrize(("kind", "broken", "problem"), BROKEN)
def test_a_broken_row_is_shown_with_its_source(tmp_path, kind, broken, problem):
    good = ROW if kind == "rows" else openr1_row()
    source = write_jsonl(tmp_path / "set.jsonl", good, broken)
    with pytest.raises(DataError, match=problem) as caught:
        load_rows(RowsConfig(path=source, format=kind))
    assert str(caught.value).startswith(f"{source}: ")
    assert "Row: {" in str(caught.value) or "Row: Question" in str(caught.value)


def test_a_broken_line_is_numbered_and_shown(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(f'{json.dumps(ROW)}\n\n{{"id": "q2", \n[1]\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 3 is no JSON") as caught:
        load_rows(RowsConfig(path=str(path)))
    assert '{"id": "q2",' in str(caught.value)
    path.write_text("[1]\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1 is no JSON object"):
        load_rows(RowsConfig(path=str(path)))


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.parquet"])
def test_a_missing_file_is_a_data_error(tmp_path, name):
    with pytest.raises(DataError, match="no such file"):
        load_rows(RowsConfig(path=str(tmp_path / name)))


@pytest.mark.parametrize("name", ["bad.parquet", "nowhere"])
def test_what_the_library_cannot_read_is_a_data_error(tmp_path, name):
    if name.endswith(".parquet"):
        (tmp_path / name).write_text("not parquet")
    with pytest.raises(DataError, match="cannot be read"):
        load_rows(RowsConfig(path=str(tmp_path / name)))


def test_no_path_empty_set_and_no_usable_chain(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.rows\.path"):
        load_rows(RowsConfig())
    empty = write_jsonl(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="is empty"):
        load_rows(RowsConfig(path=empty))
    failed = write_jsonl(tmp_path / "failed.jsonl", openr1_row(is_reasoning_complete=[False] * 3))
    with pytest.raises(DataError, match="no usable chain"):
        load_rows(RowsConfig(path=failed, format="openr1"))


@pytest.fixture
def ten(tmp_path):
    rows = [
        {"id": f"q{n}", "question": f"{n}+1?", "answer": str(n + 1), "think": "x"}
        for n in range(10)
    ]
    return RowsConfig(path=write_jsonl(tmp_path / "ten.jsonl", *rows))


def test_the_last_rows_are_held_out_from_training(ten):
    data = DataConfig(source="rows", rows=ten, eval_questions=3)
    assert [q.id for q in eval_questions(data, 0)] == ["q7", "q8", "q9"]
    stream = training_questions(data, 0)
    epochs = [[stream(7 * epoch + i).id for i in range(7)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == [f"q{n}" for n in range(7)]
    assert epochs[0] != epochs[1]
    again = training_questions(data, 0)
    assert [again(i).id for i in (20, 0, 8)] == [epochs[2][6], epochs[0][0], epochs[1][1]]
    assert [row.question.id for row in split_rows(data)[0]] == [f"q{n}" for n in range(7)]


def test_questions_are_held_out_with_all_of_their_rows(tmp_path):
    """A question counts once, however many rows have its chains."""
    rows = [
        {"id": f"q{n}", "question": f"{n}+1?", "answer": str(n + 1), "think": f"x{chain}"}
        for chain in range(2)
        for n in range(4)
    ]
    path = write_jsonl(tmp_path / "chains.jsonl", *rows)
    data = DataConfig(source="rows", rows=RowsConfig(path=path), eval_questions=2)
    training, held_out = split_rows(data)
    assert [row.question.id for row in training] == ["q0", "q1"]
    assert [(row.question.id, len(row.chains)) for row in held_out] == [("q2", 2), ("q3", 2)]


def test_a_separate_evaluation_set_needs_no_chains_and_leaves_all_rows_for_training(tmp_path, ten):
    questions = [{"id": f"e{n}", "question": f"{n}*2?", "answer": str(2 * n)} for n in range(5)]
    ten.eval_path = write_jsonl(tmp_path / "eval.jsonl", *questions)
    data = DataConfig(source="rows", rows=ten, eval_questions=4)
    assert [q.id for q in eval_questions(data, 0)] == ["e0", "e1", "e2", "e3"]
    assert len(split_rows(data)[0]) == 10


def test_holding_out_everything_is_refused(ten):
    with pytest.raises(ConfigError, match=r"data\.eval_questions = 10"):
        training_questions(DataConfig(source="rows", rows=ten, eval_questions=10), 0)


def test_chain_questions_come_from_their_own_splits():
    data = DataConfig(eval_questions=5)
    assert [q.id for q in eval_questions(data, 0)] == [f"chain-eval-{n}" for n in range(5)]
    stream = training_questions(data, 0)
    assert stream(3).id == "chain-rl-3"
    assert stream(3) == training_questions(data, 0)(3)
    assert stream(3) != training_questions(data, 1)(3)
