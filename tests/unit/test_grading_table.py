"""Every case that docs/grading.md settles, for our verdict and for math-verify's."""

import re
from pathlib import Path

import pytest
from math_verify import LatexExtractionConfig, parse, verify

from bard_ray.records import GradeItem
from bard_ray.verify.grade import grade
from benchmarks.equivalence import in_box

DOC = Path(__file__).parents[2] / "docs" / "grading.md"
ROW = re.compile(r"^\| `(.+?)` \| `(.+?)` \| (yes|no) \| (correct|wrong|unparsable) \| .+ \|$")
ROWS = [
    tuple(cell.replace(r"\|", "|") for cell in match.groups())
    for match in map(ROW.match, DOC.read_text(encoding="utf-8").splitlines())
    if match
]


def test_the_table_was_found() -> None:
    assert len(ROWS) > 120


@pytest.mark.parametrize(("answer", "gold", "_math_verify", "ours"), ROWS)
def test_our_verdict(answer: str, gold: str, _math_verify: str, ours: str) -> None:
    assert grade(GradeItem(in_box(answer), gold, "math")).outcome == ours


@pytest.mark.parametrize(("answer", "gold", "theirs", "_ours"), ROWS)
def test_verdict_of_math_verify(answer: str, gold: str, theirs: str, _ours: str) -> None:
    config = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    golds, answers = (
        parse(in_box(text), [config], "no_fallback", parsing_timeout=None)
        for text in (gold, answer)
    )
    assert verify(golds, answers, timeout_seconds=None) is (theirs == "yes")
