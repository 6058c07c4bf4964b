"""Hostile answers: bounded in time, never correct, nothing runs, and grading continues."""

import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from bard_ray.records import GradeItem, Outcome, Verdict
from bard_ray.verify.grade import grade
from bard_ray.verify.kinds import math
from bard_ray.verify.process.grading import GradingProcess
from tests.unit import hostile
from tests.unit.hostile import Hostile

LIMIT_S = 1.0
# Of all hostile inputs, how many may cost a whole time limit.
TIMEOUT_SHARE = 0.05
REFUSED = {Outcome.WRONG, Outcome.UNPARSABLE}
NAMES = [row.name for row in hostile.ALL]


def item(row: Hostile) -> GradeItem:
    return GradeItem(row.text, row.gold, row.kind)


def test_there_are_enough_of_them_and_names_are_unique() -> None:
    assert len(NAMES) >= 60
    assert len(set(NAMES)) == len(NAMES)


@pytest.fixture
def no_math_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything up to the call of math-verify is ours, and has to be fast."""
    monkeypatch.setattr(math, "ask_math_verify", lambda answer, gold: Verdict(Outcome.WRONG))


@pytest.mark.usefixtures("no_math_verify")
@pytest.mark.parametrize("row", hostile.ALL, ids=NAMES)
def test_our_own_code_refuses_it_at_once(row: Hostile) -> None:
    cheapest = 1.0
    for _ in range(3):
        begun = time.process_time()
        verdict = grade(item(row))
        cheapest = min(cheapest, time.process_time() - begun)
    assert verdict.outcome in REFUSED
    assert cheapest < 0.05


async def test_in_the_grading_process_all_are_bounded_and_grading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a payload would leave its mark
    monkeypatch.setenv("PYTHONPATH", str(Path(hostile.__file__).parents[2]))
    good = GradeItem(r"\boxed{42}", "42", "integer")
    timeouts = 0
    with closing(GradingProcess(LIMIT_S, memory_mb=1024)) as process:
        await process.start()
        for row in hostile.ALL:
            begun = time.perf_counter()
            (verdict,) = await process.grade_batch([item(row)])
            assert time.perf_counter() - begun < LIMIT_S + 0.5, row.name
            assert verdict.outcome in REFUSED | {Outcome.TIMEOUT}, row.name
            timeouts += verdict.outcome is Outcome.TIMEOUT
            assert (await process.grade_batch([good]))[0].outcome is Outcome.CORRECT, row.name
    assert timeouts <= TIMEOUT_SHARE * len(hostile.ALL)
    assert not os.listdir(tmp_path)
