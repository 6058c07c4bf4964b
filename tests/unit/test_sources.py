r"""Every format on rows in its real schema, good and broken."""

import json
import logging
import re

import pytest
from datasets import Dataset

from bard_ray.config.load import from_yaml, load, to_yaml
from bard_ray.config.schema import DataConfig, RowsConfig
from bard_ray.data.questions import eval_questions
from bard_ray.data.rows import evaluation_rows, load_rows
from bard_ray.data.source import SOURCES, TeacherChain
from bard_ray.errors import ConfigError, DataError
from bard_ray.preflight.check import problems
from bard_ray.records import Message
from recipes import bard_8b


def write(tmp_path, *rows, name="set.jsonl"):
    path = tmp_path / name
    if name.endswith(".parquet"):
        Dataset.from_list(list(rows)).to_parquet(str(path))
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def read(tmp_path, kind, *rows, chains=True, name="set.jsonl", **cfg):
    source = write(tmp_path, *rows, name=name)
    return load_rows(RowsConfig(path=source, format=kind, **cfg), need_chains=chains)


def fails(tmp_path, kind, *rows, chains=True, **cfg):
    with pytest.raises(DataError) as caught:
        read(tmp_path, kind, *rows, chains=chains, **cfg)
    return str(caught.value)


def short(row):
    """Id, text, gold answer, kind: what most formats are about."""
    question = row.question
    (message,) = question.messages
    assert message.role == "user"
    return question.id, message.content, question.answer, question.kind


# AIME: the mirrors.
AIME_MIRRORS = [
    (
        "aime24",
        {"id": 60, "problem": "P?", "solution": "s", "answer": "073", "url": "u", "year": "2024"},
        ("aime24-60", "P?", "073", "integer"),
    ),
    (
        "aime24",
        {"ID": "2024-II-4", "Problem": "P?", "Solution": "s", "Answer": 33},
        ("aime24-2024-II-4", "P?", "33", "integer"),
    ),
    ("aime25", {"question": "P?", "answer": "70"}, ("P?", "P?", "70", "integer")),
    (
        "aime25",
        {"problem": "P?", "answer": "588", "id": "1"},
        ("aime25-1", "P?", "588", "integer"),
    ),
    (
        "aime25",
        {"problem_idx": 3, "problem": "P?", "answer": 16, "problem_type": ["Algebra"]},
        ("aime25-3", "P?", "16", "integer"),
    ),
]


@pytest.mark.parametrize(("kind", "row", "expected"), AIME_MIRRORS)
@pytest.mark.parametrize("name", ["set.jsonl", "set.parquet", "set.json"])
def test_aime_mirrors(tmp_path, kind, row, expected, name):
    (found,) = read(tmp_path, kind, row, chains=False, name=name)
    assert short(found) == expected
    assert found.question.source.endswith(name)


GPQA = {
    "Record ID": "rec06pnAkLOr2t2mp",
    "Question": "Which particle is massless?\n",
    "Correct Answer": "photon\n",
    "Incorrect Answer 1": " muon",
    "Incorrect Answer 2": "pion",
    "Incorrect Answer 3": "kaon ",
}


def test_gpqa_options_are_stripped_and_ordered_by_seed_and_id_alone(tmp_path):
    other = GPQA | {"Record ID": "rec2", "Question": "And which is not?"}
    alone = read(tmp_path, "gpqa", GPQA, chains=False, name="set.parquet")[0].question
    second = read(tmp_path, "gpqa", other, GPQA, chains=False)[1].question
    assert (alone.messages, alone.answer) == (second.messages, second.answer)
    lines = alone.messages[0].content.splitlines()
    assert alone.id == "rec06pnAkLOr2t2mp"
    assert alone.kind == "choice"
    assert lines[0] == "Which particle is massless?"
    assert sorted(line[3:] for line in lines[2:6]) == ["kaon", "muon", "photon", "pion"]
    assert f"{alone.answer}) photon" in lines
    letters = [
        read(tmp_path, "gpqa", GPQA, chains=False, params={"seed": s})[0].question.answer
        for s in range(12)
    ]
    assert len(set(letters)) > 1


def test_math500(tmp_path):
    row = {
        "problem": "Convert $(0,3)$ to polar coordinates.",
        "solution": "We have $r = 3$. $\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}$",
        "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
        "subject": "Precalculus",
        "level": 2,
        "unique_id": "test/precalculus/807.json",
    }
    (found,) = read(tmp_path, "math500", row, chains=False)
    assert short(found) == ("test/precalculus/807.json", row["problem"], row["answer"], "math")
    assert found.question.meta == {"subject": "Precalculus", "level": "2"}
    assert "no usable chain" in fails(tmp_path, "math500", row)


def test_gsm8k(tmp_path):
    row = {
        "question": "How many clips did Natalia sell?",
        "answer": "She sold 48/2 = <<48/2=24>>24 in May.\nTogether 1272.\n#### 1,272",
    }
    (found,) = read(tmp_path, "gsm8k", row)
    assert short(found) == (row["question"], row["question"], "1272", "math")
    think = "She sold 48/2 = 24 in May.\nTogether 1272."
    assert found.chains == (TeacherChain(think, "\\boxed{1272}", "human"),)


def test_deepmath(tmp_path):
    row = {
        "question": "Evaluate the limit.",
        "final_answer": "0",
        "difficulty": 4.5,
        "topic": "Mathematics -> Precalculus",
        "r1_solution_1": "Okay, it tends to 0.\n</think>\n\nThe limit is $\\boxed{0}$.",
        "r1_solution_2": "It is 0.",
        "r1_solution_3": None,
    }
    (found,) = read(tmp_path, "deepmath", row)
    assert short(found) == (row["question"], row["question"], "0", "math")
    assert found.question.meta == {"difficulty": "4.5", "topic": "Mathematics -> Precalculus"}
    assert found.chains == (
        TeacherChain("Okay, it tends to 0.\n", "\n\nThe limit is $\\boxed{0}$.", "DeepSeek-R1"),
        TeacherChain("It is 0.", "\\boxed{0}", "DeepSeek-R1"),
    )


def test_deepscaler_leaves_out_null_answers_and_second_answers(tmp_path, caplog):
    rows = [
        {"problem": "A?", "answer": "-\\frac{2}{3}", "solution": ""},
        {"problem": "B?", "answer": None, "solution": "s"},
        {"problem": "A?", "answer": "5", "solution": "s"},
        {"problem": "C?", "answer": 26, "solution": None},
    ]
    with caplog.at_level(logging.WARNING):
        found = read(tmp_path, "deepscaler", *rows, chains=False, name="set.json")
    assert [short(row)[1:3] for row in found] == [("A?", "-\\frac{2}{3}"), ("C?", "26")]
    assert "2 rows left out (no gold answer 1, question known with another answer 1)" in caplog.text


@pytest.mark.parametrize("answer", ["23", 23, 23.0])
def test_limo(tmp_path, answer):
    row = {"question": "Q?", "solution": "Okay. So 23.", "answer": answer}
    (found,) = read(tmp_path, "limo", row)
    assert short(found) == ("Q?", "Q?", "23", "math")
    assert found.chains == (TeacherChain("Okay. So 23.", "\\boxed{23}"),)


def s1k(**change):
    row = {
        "solution": "128",
        "question": "Given $xyz$, find it.",
        "cot_type": "math",
        "source_type": "AI-MO/NuminaMath-CoT/aops_forum",
        "metadata": "{}",
        "gemini_thinking_trajectory": "Gemini thinks.",
        "gemini_attempt": "So 128.",
        "deepseek_thinking_trajectory": "DeepSeek thinks.",
        "deepseek_attempt": "The answer is $\\boxed{128}$.\n",
        "gemini_grade": "No",
        "gemini_grade_reason": "r",
        "deepseek_grade": "Yes",
        "deepseek_grade_reason": "r",
    }
    return row | change


def test_s1k_takes_the_wanted_teachers_where_graded_right(tmp_path):
    rows = [
        s1k(),
        s1k(question="B?", gemini_grade="Yes", solution="So $x=\\boxed{7}$.\nDone."),
        s1k(question="C?", deepseek_grade="No"),
    ]
    params = {"teachers": ["deepseek", "gemini"]}
    first, second, third = read(tmp_path, "s1k", *rows, params=params)
    chain = TeacherChain("DeepSeek thinks.", "The answer is $\\boxed{128}$.", "deepseek")
    assert short(first) == ("Given $xyz$, find it.", "Given $xyz$, find it.", "128", "math")
    assert (first.chains, third.chains) == ((chain,), ())
    assert second.question.answer == "7"
    assert second.chains == (chain, TeacherChain("Gemini thinks.", "So 128.", "gemini"))
    assert [row.chains for row in read(tmp_path, "s1k", *rows)] == [(chain,), (chain,), ()]


def test_s1k_with_a_proof_for_gold_takes_the_teachers_answer_and_says_so(tmp_path):
    proof = s1k(solution="First.\nThen.\nQ.E.D.")
    (found,) = read(tmp_path, "s1k", proof, chains=False)
    assert found.question.answer == "128"
    assert found.question.meta == {"gold": "teacher", "cot_type": "math"}
    assert found.chains == ()
    unboxed = s1k(question="B?", solution="First.\nThen.", deepseek_attempt="Proved.")
    assert len(read(tmp_path, "s1k", proof, unboxed)) == 1


def test_s1k_first_version(tmp_path):
    row = {
        "solution": "128",
        "question": "Q?",
        "cot_type": "math",
        "thinking_trajectories": ["I think."],
        "attempt": "It is 128.",
    }
    (found,) = read(tmp_path, "s1k", row)
    assert found.chains == (TeacherChain("I think.", "It is 128.", "gemini"),)


def test_openthoughts_default_config_reads_its_own_markers(tmp_path):
    answer = (
        "<|begin_of_thought|>\n\nOkay. 1+1.\n\n<|end_of_thought|>\n\n"
        "<|begin_of_solution|>\n\nIt is \\boxed{2}.\n\n<|end_of_solution|>"
    )
    row = {
        "system": "Your role as an assistant involves exploring.",
        "conversations": [
            {"from": "user", "value": "1+1?"},
            {"from": "assistant", "value": answer},
        ],
    }
    cut = {"conversations": [row["conversations"][0], {"from": "assistant", "value": answer[:50]}]}
    (found,) = read(tmp_path, "openthoughts", row, cut)
    assert short(found) == ("1+1?", "1+1?", "2", "math")
    assert found.question.meta == {"gold": "teacher", "domain": "unknown"}
    assert found.chains == (TeacherChain("Okay. 1+1.", "It is \\boxed{2}.", "DeepSeek-R1"),)


def test_openthoughts_metadata_config_has_columns_and_other_domains(tmp_path):
    row = {
        "problem": "2+2?",
        "deepseek_reasoning": "Two and two.",
        "deepseek_solution": "So \\boxed{5}.",
        "ground_truth_solution": "It is $\\boxed{4}$ of course.",
        "domain": "math",
        "source": "numina_math",
        "test_cases": None,
        "starter_code": None,
    }
    code = row | {"problem": "Sort.", "domain": "code", "ground_truth_solution": None}
    (found,) = read(tmp_path, "openthoughts", row, code)
    assert short(found) == ("2+2?", "2+2?", "4", "math")
    assert found.question.meta == {"domain": "math"}
    assert found.chains == (TeacherChain("Two and two.", "So \\boxed{5}.", "DeepSeek-R1"),)


def test_openthoughts3_gathers_the_rows_that_agree(tmp_path):
    def row(completion, domain="math"):
        turns = [{"from": "human", "value": "3+4?"}, {"from": "gpt", "value": completion}]
        return {"difficulty": 7, "source": "s", "domain": domain, "conversations": turns}

    rows = [
        row("<think>\nSeven.\n</think>\n\n\\boxed{7}"),
        row("<think>Three, four.</think>\\boxed{7}"),
        row("<think>Eight?</think>\\boxed{8}"),
        row("<think>Still thinking"),
        row("<think>a</think>print(7)", domain="code"),
    ]
    (found,) = read(tmp_path, "openthoughts3", *rows)
    assert short(found) == ("3+4?", "3+4?", "7", "math")
    assert found.question.meta["gold"] == "teacher"
    assert [chain.think for chain in found.chains] == ["\nSeven.\n", "Three, four."]


def am_row(
    reference="42", think="Deep.", content="<think>Deep.</think><answer>\\boxed{42}</answer>"
):
    nothing = {"source": None, "reference_answer": None, "test_case": None}
    info = {"source": "OpenR1", "reference_answer": reference, "test_case": None}
    empty = {"think_content": None, "answer_content": None}
    given = {"think_content": think, "answer_content": think and "\\boxed{42}"}
    return {
        "messages": [
            {"role": "user", "content": f"{reference}? {think}", "info": info | empty},
            {"role": "assistant", "content": content, "info": nothing | given},
        ]
    }


def test_am_r1_digs_out_the_nested_info(tmp_path):
    plain, untold, chat = am_row(), am_row(reference=None), am_row(None, "", "Hello!")
    tagged = am_row(think=None)
    for name in ("set.jsonl", "set.parquet"):
        found = read(tmp_path, "am_r1", plain, untold, chat, tagged, name=name)
        assert [row.question.answer for row in found] == ["42", "42", "42"]
        assert [row.question.meta for row in found] == [
            {"source": "OpenR1"},
            {"gold": "teacher", "source": "OpenR1"},
            {"source": "OpenR1"},
        ]
        chain = TeacherChain("Deep.", "\\boxed{42}", "DeepSeek-R1")
        assert [row.chains for row in found] == [(chain,)] * 3


def verl_row(**change):
    row = {
        "data_source": "openai/gsm8k",
        "prompt": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "6*7?"},
        ],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "42"},
        "extra_info": {"split": "train", "index": 0, "answer": "a", "question": "6*7?"},
    }
    return row | change


@pytest.mark.parametrize("name", ["set.jsonl", "set.parquet"])
def test_verl(tmp_path, name):
    bare = verl_row(prompt=[{"role": "user", "content": "6*8?"}], extra_info=None)
    none = verl_row(reward_model={"style": "model", "ground_truth": None}, extra_info=None)
    first, second = read(tmp_path, "verl", verl_row(), bare, none, chains=False, name=name)
    assert first.question.id == "openai/gsm8k-train-0"
    assert first.question.messages == (Message("system", "Be brief."), Message("user", "6*7?"))
    assert (first.question.answer, first.question.kind) == ("42", "math")
    assert first.question.meta == {"data_source": "openai/gsm8k", "ability": "math"}
    assert short(second) == ("6*8?", "6*8?", "42", "math")


THOUGHT = "<think>Six sevens.</think>\\boxed{42}"
CHAIN = TeacherChain("Six sevens.", "\\boxed{42}")
USER, ASSISTANT = {"role": "user", "content": "6*7?"}, {"role": "assistant", "content": THOUGHT}
SPLIT = {"role": "assistant", "content": "\\boxed{42}", "reasoning_content": "Six sevens."}
CONVERSATIONS = [
    ("trl", {"messages": [USER, ASSISTANT]}, "42", (CHAIN,)),
    ("trl", {"messages": [USER, SPLIT], "answer": "42.0"}, "42.0", (CHAIN,)),
    ("trl", {"prompt": "6*7?", "completion": THOUGHT, "solution": "$\\boxed{42}$"}, "42", (CHAIN,)),
    ("trl", {"prompt": [USER], "completion": [ASSISTANT], "solution": None}, "42", (CHAIN,)),
    ("trl", {"prompt": [USER], "solution": 42}, "42", ()),
    (
        "prime_rl",
        {"messages": [USER, ASSISTANT], "prompt": "other", "completion": "x"},
        "42",
        (CHAIN,),
    ),
    ("prime_rl", {"prompt": [USER], "completion": [ASSISTANT]}, "42", (CHAIN,)),
    ("prime_rl", {"question": "6*7?", "answer": "42", "info": {}}, "42", ()),
]


@pytest.mark.parametrize(("kind", "row", "answer", "chains"), CONVERSATIONS)
def test_conversations_of_trainers(tmp_path, kind, row, answer, chains):
    (found,) = read(tmp_path, kind, row, chains=bool(chains))
    assert short(found) == ("6*7?", "6*7?", answer, "math")
    assert found.chains == chains


def test_the_kind_of_answers_is_a_parameter(tmp_path):
    row = {"prompt": "Sure?", "answer": "yes"}
    (found,) = read(tmp_path, "trl", row, chains=False, params={"kind": "string"})
    assert found.question.kind == "string"
    with pytest.raises(ConfigError, match="Use one of choice, integer, math, string"):
        read(tmp_path, "verl", verl_row(), params={"kind": "essay"})


@pytest.mark.parametrize("wrapped", [False, True])
def test_open_instruct(tmp_path, wrapped):
    def row(truth, verifier):
        return {
            "messages": [USER],
            "ground_truth": [truth] if wrapped else truth,
            "dataset": [verifier] if wrapped else verifier,
        }

    rows = [row("42", "gsm8k"), row('{"func_name": "f"}', "ifeval")]
    (found,) = read(tmp_path, "open_instruct", *rows, chains=False)
    assert short(found) == ("6*7?", "6*7?", "42", "math")


BROKEN = [
    ("aime24", {"problem": "P?"}, "has no column 'answer' or 'Answer' (it has: problem)"),
    ("aime25", {"problem": "P?", "answer": None}, "column 'answer' must be text and not blank"),
    ("aime25", {"problem": "P?", "answer": "12a"}, "has the answer '12a', which is not an integer"),
    ("aime25", {"problem": "P?", "answer": 1000}, "not an integer from 0 to 999"),
    ("aime25", {"problem": "P?", "answer": True}, "column 'answer' must be text"),
    ("gpqa", GPQA | {"Incorrect Answer 2": None}, "column 'Incorrect Answer 2' must be text"),
    ("gpqa", GPQA | {"Incorrect Answer 2": "muon "}, "has the same option twice"),
    ("gpqa", {"Question": "Q?"}, "has no column 'Incorrect Answer 1'"),
    ("math500", {"problem": "", "answer": "1"}, "column 'problem' must be text and not blank"),
    ("gsm8k", {"question": "Q?", "answer": "72"}, "does not end in '#### number'"),
    ("gsm8k", {"question": "Q?", "answer": "It is\n####"}, "does not end in '#### number'"),
    ("deepmath", {"question": "Q?", "answer": "1"}, "has no column 'final_answer'"),
    (
        "deepmath",
        {"question": "Q?", "final_answer": "1", "r1_solution_1": ["x"]},
        "column 'r1_solution_1' must be text",
    ),
    ("deepscaler", {"question": "Q?", "answer": "1"}, "has no column 'problem'"),
    ("limo", {"question": "Q?", "answer": "1", "solution": " "}, "column 'solution' must be text"),
    ("s1k", {"question": "Q?"}, "has no column 'solution'"),
    (
        "s1k",
        {"question": "Q?", "solution": "1", "thinking_trajectories": "x"},
        "column 'thinking_trajectories' must be a list",
    ),
    ("openthoughts", {"messages": []}, "has no column 'conversations'"),
    (
        "openthoughts",
        {"conversations": [{"from": "bot", "value": "x"}]},
        "holds a broken message ({'from': 'bot', 'value': 'x'})",
    ),
    ("openthoughts3", {"domain": "math", "conversations": ["x"]}, "must hold messages"),
    ("openthoughts3", {"conversations": []}, "has no column 'domain'"),
    ("am_r1", {"messages": [{"role": "assistant", "content": "x"}]}, "has no user message"),
    ("am_r1", {"messages": [USER | {"info": "x"}]}, "'info' that is no mapping"),
    ("verl", verl_row(reward_model="42"), "column 'reward_model' must be a mapping"),
    ("verl", verl_row(reward_model={"ground_truth": ["4"]}), "'ground_truth' must be text"),
    ("verl", {"prompt": [USER]}, "has no column 'reward_model' (it has: prompt)"),
    ("trl", {"text": "x"}, "has no column 'messages'"),
    ("trl", {"messages": [USER, {"role": "user"}]}, "holds a broken message"),
    ("trl", {"prompt": "x", "completion": [USER]}, "'completion' has no assistant message"),
    ("prime_rl", {"messages": []}, "has no user message before the answer"),
    (
        "open_instruct",
        {"messages": [USER], "ground_truth": ["1", "2"], "dataset": "math"},
        "column 'ground_truth' must hold one text",
    ),
]


@pytest.mark.parametrize(("kind", "row", "problem"), BROKEN)
def test_a_malformed_row_is_shown(tmp_path, kind, row, problem):
    message = fails(tmp_path, kind, row)
    assert problem in message
    assert re.match(r".*set\.jsonl: row 1 ", message)
    assert "Row: {" in message


def test_every_format_is_tried_with_a_malformed_row():
    own = {"rows", "openr1"}  # tests/unit/test_rows.py
    assert {kind for kind, _, _ in BROKEN} | own == set(SOURCES.names())


# Column map, own formats, configuration.
def test_a_column_map_renames_and_hides(tmp_path):
    row = {"prompt_text": "1+1?", "gold": 2, "answer": "the teacher's", "cot": "One and one."}
    columns = {"question": "prompt_text", "answer": "gold", "think": "cot"}
    for name in ("set.jsonl", "set.parquet"):
        (found,) = read(tmp_path, "rows", row, columns=columns, name=name)
        assert short(found) == ("1+1?", "1+1?", "2", "math")
        assert found.chains == (TeacherChain("One and one.", "\\boxed{2}"),)
    message = fails(tmp_path, "rows", row, columns={"question": "no_such"})
    assert "row 1 has no column 'question'" in message


def test_an_own_format_is_a_class_in_a_file(tmp_path, monkeypatch):
    (tmp_path / "own_sets.py").write_text(
        "from dataclasses import dataclass\n"
        "from bard_ray.data.reading import user_question\n"
        "from bard_ray.data.source import Source, TeacherRow\n"
        "@dataclass(frozen=True)\n"
        "class Sums(Source):\n"
        "    plus: int = 1\n"
        "    def read(self, row, need_chains):\n"
        "        n = int(row.text('n'))\n"
        "        yield TeacherRow(user_question(row, f'{n}+{self.plus}?', str(n + self.plus)))\n"
        "@dataclass(frozen=True)\n"
        "class NoSource:\n"
        "    def read(self, row, need_chains): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = read(tmp_path, "own_sets:Sums", {"n": 4}, chains=False, params={"plus": 3})
    assert short(found) == ("4+3?", "4+3?", "7", "math")
    with pytest.raises(ConfigError, match="is no format of data sets"):
        read(tmp_path, "own_sets:NoSource", {"n": 4})


def broken(*overrides):
    return [str(problem) for problem in problems(load(bard_8b.config(), list(overrides)))]


def test_format_parameters_and_columns_are_checked_before_the_run(tmp_path):
    path = write(tmp_path, {"question": "Q?"})
    here = f"data.rows.path={path}"
    (found,) = broken(here, "data.rows.format=openr2")
    assert found.startswith(
        "data.rows.format = 'openr2': is not a known plug-in. Did you mean openr1?"
    )
    assert "aime24, aime25" in found
    (found,) = broken(here, "data.rows.format=gpqa", "data.rows.params.seed=-1")
    assert found.startswith("data.rows.params = {'seed': -1}: is not valid for gpqa (seed must be")
    (found,) = broken(here, "data.rows.format=rows", "data.rows.columns.thinking=cot")
    assert found.startswith("data.rows.columns.thinking = 'thinking': is no column of")
    assert "It reads id, question, answer, kind, think" in found
    (found,) = broken(here, "data.rows.eval_format=aime26", f"data.rows.eval_path={path}")
    assert found.startswith("data.rows.eval_format = 'aime26': is not a known plug-in.")
    (found,) = broken(here, "data.rows.eval_format=aime25")
    assert "which is empty" in found
    assert broken(here, "data.rows.format=rows", "data.rows.columns.question=0123") == []


def test_column_map_and_parameters_go_through_yaml():
    overrides = ["data.rows.columns={question: '0123'}", "data.rows.params.seed=3"]
    config = load(bard_8b.config(), overrides)
    assert config.data.rows.columns == {"question": "0123"}
    again = from_yaml(to_yaml(config))
    assert (again.data.rows.columns, again.data.rows.params) == ({"question": "0123"}, {"seed": 3})
    with pytest.raises(ConfigError, match="must be text"):
        load(bard_8b.config(), ["data.rows.columns={question: 5}"])


def test_the_evaluation_set_may_have_a_format_of_its_own(tmp_path):
    path = write(tmp_path, {"id": 1, "problem": "P?", "answer": "007"}, name="aime.jsonl")
    rows = RowsConfig(
        path="unread",
        format="openr1",
        columns={"problem": "p"},
        eval_path=path,
        eval_format="aime24",
    )
    (question,) = eval_questions(DataConfig(source="rows", rows=rows), 0)
    assert (question.id, question.answer) == ("aime24-1", "007")


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        (
            RowsConfig(eval_format="gpqa", eval_path="Idavidrein/gpqa@633f5ee"),
            ("Idavidrein/gpqa@633f5ee", "gpqa_diamond", "train", "main"),
        ),
        (
            RowsConfig(
                eval_format="math500", eval_path="HuggingFaceH4/MATH-500", eval_revision="r1"
            ),
            ("HuggingFaceH4/MATH-500", "", "test", "r1"),
        ),
        (
            RowsConfig(eval_path="a/b", split="train", eval_split="test", revision="r2"),
            ("a/b", "", "test", "r2"),
        ),
    ],
)
def test_where_evaluation_questions_are(rows, where):
    found = evaluation_rows(rows)
    assert (found.path, found.config, found.split, found.revision) == where


@pytest.mark.parametrize(
    ("text", "problem"),
    [("[{", "is no JSON"), ('{"n": 1}', "is no list of rows"), ("[1]", "row 1 is no JSON object")],
)
def test_a_broken_json_file_is_a_data_error(tmp_path, text, problem):
    path = tmp_path / "set.json"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        load_rows(RowsConfig(path=str(path)))


def test_a_hub_id_with_its_revision_is_read_by_datasets(monkeypatch):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return Dataset.from_list([{"question": "Q?", "answer": "#### 3", "other": 1}])

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    cfg = RowsConfig(path="openai/gsm8k@e53f048", format="gsm8k", config="main")
    (found,) = load_rows(cfg, need_chains=False)
    assert short(found)[2] == "3"
    assert asked == [(("openai/gsm8k", "main"), {"split": "train", "revision": "e53f048"})]
