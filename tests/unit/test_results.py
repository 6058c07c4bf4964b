"""results.json: round trip, atomic writing, and what is refused when it is read."""

import copy
import json

import pytest

from bard_ray.errors import RunStateError
from bard_ray.evals.metrics import summarize
from bard_ray.records import (
    NO_BUDGET,
    Group,
    GroupRequest,
    Message,
    Outcome,
    Question,
    Rollout,
    TokenBudget,
    Verdict,
)
from bard_ray.report.results import Results, partial_results, read_results, write_results


def group(budget, length):
    question = Question("q", (Message("user", "1+1"),), "2")
    rollout = Rollout(budget, (), "stop", length, closed=True, answer_text="2")
    return Group(GroupRequest(0, question, (budget,), 0), (rollout,), (Verdict(Outcome.CORRECT),))


def results():
    summary = summarize(
        [group(TokenBudget(13), 13), group(TokenBudget(8), 9), group(NO_BUDGET, 30)]
    )
    return Results({"sft": 85.5}, {"rl": summary}, {"seed": 0, "max_lag": 1, "held_out": [13]})


def test_what_is_written_is_read(tmp_path):
    write_results(tmp_path / "results.json", results())
    assert read_results(tmp_path / "results.json") == results()


def test_the_file_has_the_documented_keys(tmp_path):
    write_results(tmp_path / "results.json", results())
    content = json.loads((tmp_path / "results.json").read_text())
    assert set(content) == {"wall_s", "variants", "config"}
    assert content["variants"]["rl"]["by_budget"]["8"]["mean_length"] == 9


def test_an_unfinished_run_has_the_variants_that_were_measured_so_far(tmp_path):
    assert partial_results(tmp_path, {}, {}) == Results()
    (tmp_path / "evals").mkdir()
    for name in ("additive", "rl", "student", "sft"):
        text = json.dumps(results().variants["rl"])
        (tmp_path / "evals" / f"{name}.json").write_text(text)
    found = partial_results(tmp_path, {"sft": 85.5}, {"seed": 0})
    assert list(found.variants) == ["student", "sft", "rl", "additive"]
    assert found.variants["additive"] == results().variants["rl"]
    assert (found.wall_s, found.config) == ({"sft": 85.5}, {"seed": 0})


def test_budgets_and_held_out_ones_come_as_labels_in_order():
    assert results().budgets == ["8", "13", "none"]
    assert results().held_out == {"13"}


def test_a_value_that_is_no_json_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, results())
    with pytest.raises(ValueError, match="JSON"):
        write_results(path, Results({"sft": float("nan")}))
    assert read_results(path) == results()


def test_a_file_without_config_is_read(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"wall_s": {}, "variants": {}}')
    assert read_results(path) == Results()


def broken(change):
    content = {
        "wall_s": {"sft": 1.0},
        "variants": {"rl": copy.deepcopy(results().variants["rl"])},
        "config": {},
    }
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "cannot be read"),
        ('{"wall_s": {}, "vari', "cannot be read"),
        ("[]", "is not a JSON object"),
        ('{"variants": {}}', "has no object 'wall_s'"),
        ('{"wall_s": {}, "variants": []}', "has no object 'variants'"),
        (broken(lambda c: c["wall_s"].update(sft="long")), "wall time that is not a number"),
        (broken(lambda c: c["variants"].update(rl={})), "variant 'rl' has no 'by_budget'"),
        (broken(lambda c: c["variants"]["rl"].pop("rel_err")), "variant 'rl': lacks rel_err"),
        (
            broken(lambda c: c["variants"]["rl"].update(accuracy=1.5)),
            "accuracy = 1.5 is no valid value",
        ),
        (
            broken(lambda c: c["variants"]["rl"]["by_budget"]["8"].pop("n")),
            "variant 'rl': budget 8: lacks n",
        ),
        (
            broken(lambda c: c["variants"]["rl"]["by_budget"].update({"8": 3})),
            "budget 8: is not an object",
        ),
        (broken(lambda c: c["variants"]["rl"]["by_budget"]["8"].update(n="many")), "n = 'many'"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong_and_what_to_do(tmp_path, text, problem):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(RunStateError) as caught:
        read_results(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert "run the same command again: it is written again from evals/" in str(caught.value)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(RunStateError, match="cannot be read"):
        read_results(tmp_path / "results.json")
