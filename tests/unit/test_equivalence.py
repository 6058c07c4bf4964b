"""Pairs of answers from the test suites of other projects, and near misses of our own."""

import pytest

from bard_ray.records import GradeItem
from bard_ray.verify.grade import grade
from benchmarks import equivalence
from benchmarks.equivalence import ARGUABLE, in_box, ours_accepts, read_pairs, rows

PAIRS = read_pairs()


@pytest.mark.parametrize("pair", PAIRS, ids=[f"{p.kind}: {p.answer} | {p.gold}" for p in PAIRS])
def test_our_verdict_is_that_of_a_mathematician(pair: equivalence.Pair) -> None:
    assert ours_accepts(pair) is pair.equal


@pytest.mark.parametrize(("_suite", "ours", "answer", "gold", "_source", "_why"), rows(ARGUABLE))
def test_arguable_pairs_are_decided_as_listed(
    _suite: str, ours: str, answer: str, gold: str, _source: str, _why: str
) -> None:
    assert grade(GradeItem(in_box(answer), gold, "math")).outcome == ours


def test_every_class_has_pairs_in_both_directions() -> None:
    for kind in {pair.kind for pair in PAIRS}:
        assert {pair.equal for pair in PAIRS if pair.kind == kind} == {True, False}, kind


def test_no_pair_is_listed_twice() -> None:
    cells = [(pair.answer, pair.gold) for pair in PAIRS]
    cells += [(answer, gold) for _, _, answer, gold, _, _ in rows(ARGUABLE)]
    assert len(set(cells)) == len(cells)


def test_a_verdict_that_is_none_is_named(tmp_path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("number\tmaybe\t1\t2\tours\n")
    with pytest.raises(ValueError, match="'maybe' is no verdict"):
        read_pairs(path)


def test_the_benchmark_counts_both_kinds_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    right = equivalence.Pair("number", True, "0.5", "1/2", "suite")
    wrong = equivalence.Pair("number", False, "2", "3", "ours")
    monkeypatch.setattr(equivalence, "math_verify_accepts", lambda pair: not pair.equal)
    figures = equivalence.summarize([equivalence.judge(pair) for pair in (right, wrong)])
    assert figures["ours"] == {"agreement": 1.0, "false_positives": 0, "false_negatives": 0}
    assert figures["math_verify"] == {"agreement": 0.0, "false_positives": 1, "false_negatives": 1}
    assert figures["suites"]["pairs"] == 1
    assert figures["ours_wrong"] == []
