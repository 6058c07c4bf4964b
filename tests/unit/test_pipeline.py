"""Tests of the data pipeline: what is made, kept, made again, and how much is in work at a time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, Judged
from bard_ray.distill.pipeline import BusyClock, Pipeline, RecordSource
from bard_ray.distill.select import FilterStep, make_steps
from bard_ray.distill.step import Step, Tools
from bard_ray.distill.store import StepFacts
from bard_ray.distill.table import read_judged, write_judged
from bard_ray.errors import ConfigError, DataError, InvariantError
from bard_ray.records import NO_BUDGET, Message, Outcome, Question, TokenBudget

QUESTIONS, CHAINS = 10, 2


def record(number: int, turn: int = 0) -> Candidate:
    question = Question(f"q{number}", (Message("user", f"{number}?"),), str(number), "integer")
    tokens_T = np.arange(number + turn, dtype=np.int32)
    return Candidate(question, f"thought {turn}", f"\\boxed{{{number}}}", tokens_T)


def records(questions: int = QUESTIONS) -> Iterator[Candidate]:
    for number in range(questions):
        for turn in range(CHAINS):
            yield record(number, turn)


@dataclass(frozen=True)
class Upper:
    """Changes every record, and drops chains whose tokens are as many as `bad` says."""

    size: int = 3
    bad: int = -1
    log: list[str] = field(default_factory=list, compare=False)
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("seed",)
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("log",)

    @property
    def questions(self) -> int:
        return self.size

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        self.log.append(records[0].question.id)
        await asyncio.sleep(0)
        return [
            (replace(r, think=r.think.upper()), "bad" if r.tokens_T.size == self.bad else "")
            for r in records
        ]


@dataclass(frozen=True)
class Breaks(Upper):
    """Fails at one question, as a process that is killed there."""

    at: str = ""
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("log", "at")

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        if any(r.question.id == self.at for r in records):
            msg = "killed"
            raise ConnectionError(msg)
        return await super().run(records, tools)


async def never(*_: object) -> Any:
    msg = "no test asks for this"
    raise AssertionError(msg)


def tools() -> Tools:
    missing = cast("Callable[..., Awaitable[Any]]", never)
    return Tools(
        0,
        "",
        cast(Any, None),
        (4, 8),
        FilterContext(["who are you"]),
        missing,
        missing,
        missing,
        missing,
    )


def pipeline(root: Path, *steps: Step, questions: int = QUESTIONS, **kwargs: Any) -> Pipeline:
    source = RecordSource(f"source{questions}", questions, lambda: records(questions))
    named = [(f"s{place}", step) for place, step in enumerate(steps)]
    return Pipeline(root, source, named, tools(), {"seed": 0}, **kwargs)


def run(line: Pipeline) -> list[StepFacts]:
    return asyncio.run(line.run())


def thinks(line: Pipeline, after: int = -1) -> list[tuple[str, str]]:
    return [(r.question.id, r.think) for r in line.records(after)]


def contents(root: Path) -> dict[str, str]:
    """Digest of every data file."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.parquet"))
    }


def test_records_go_through_all_steps_in_order(tmp_path: Path) -> None:
    line = pipeline(tmp_path, Upper(3, bad=4), Upper(4))
    first, second = run(line)
    assert (first.records, first.questions, first.kept, first.dropped) == (20, 10, 18, {"bad": 2})
    assert first.examples == {"bad": ["q3", "q4"]}
    assert (first.parts, second.parts) == (4, 3)  # 3 + 3 + 3 + 1 and 4 + 4 + 2 questions
    assert (second.records, second.kept) == (18, 18)
    wanted = [
        (f"q{n}", f"THOUGHT {t}") for n in range(QUESTIONS) for t in range(CHAINS) if n + t != 4
    ]
    assert thinks(line) == wanted


def test_a_second_command_makes_nothing_again(tmp_path: Path) -> None:
    run(pipeline(tmp_path, Upper(), Upper(4)))
    steps = Upper(), Upper(4)
    line = pipeline(tmp_path, *steps)
    facts = run(line)
    assert [step.log for step in steps] == [[], []]
    assert [f.reused for f in facts] == [f.parts for f in facts]
    assert len(thinks(line)) == 20


def test_a_changed_step_makes_only_itself_and_what_follows_again(tmp_path: Path) -> None:
    run(pipeline(tmp_path, Upper(), Upper(4), Upper(5)))
    steps = Upper(), Upper(4, bad=3), Upper(5)
    run(pipeline(tmp_path, *steps))
    assert [bool(step.log) for step in steps] == [False, True, True]


def test_another_seed_or_source_makes_all_again(tmp_path: Path) -> None:
    run(pipeline(tmp_path, Upper()))
    other = pipeline(tmp_path, step := Upper(), questions=4)
    run(other)
    assert sorted(step.log) == ["q0", "q3"]
    source = RecordSource("source10", QUESTIONS, records)
    seeded = Pipeline(tmp_path, source, [("s0", again := Upper())], tools(), {"seed": 1})
    run(seeded)
    assert len(again.log) == 4


@pytest.mark.parametrize("at", ["q0", "q4", "q9"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, at: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(pipeline(whole, Breaks(3), Breaks(2)))
    with pytest.raises(ConnectionError):
        run(pipeline(broken, Breaks(3), Breaks(2, at=at)))
    first, second = Breaks(3), Breaks(2)
    line = pipeline(broken, first, second)
    run(line)
    assert contents(broken) == contents(whole)
    assert thinks(line) == thinks(pipeline_done(whole))
    assert len(first.log) < 4 or at == "q0"  # what the first step had finished was not made again


def pipeline_done(root: Path) -> Pipeline:
    line = pipeline(root, Breaks(3), Breaks(2))
    run(line)
    return line


def test_half_a_part_and_a_damaged_one_are_made_again(tmp_path: Path) -> None:
    line = pipeline(tmp_path, Upper(3))
    run(line)
    before = contents(tmp_path)
    folder = line.nodes[0].store.path
    (folder / "manifest.json").unlink()
    (folder / "part-00001.json").unlink()
    (folder / "part-00002.parquet").write_bytes(b"torn")
    run(pipeline(tmp_path, step := Upper(3)))
    assert sorted(step.log) == ["q3", "q6"]
    assert contents(tmp_path) == before


def test_of_a_complete_step_a_lost_file_is_made_again_and_a_damaged_one_is_told(
    tmp_path: Path,
) -> None:
    line = pipeline(tmp_path, Upper(3))
    run(line)
    before = contents(tmp_path)
    line.nodes[0].store.data_path(1).unlink()
    run(pipeline(tmp_path, step := Upper(3)))
    assert step.log == ["q3"]
    assert contents(tmp_path) == before
    line.nodes[0].store.data_path(2).write_bytes(b"torn")
    again = pipeline(tmp_path, Upper(3))
    run(again)
    with pytest.raises(DataError, match=r"part-00002\.parquet: is missing or damaged"):
        list(again.records())


def test_a_step_that_compares_questions_gets_them_all(tmp_path: Path) -> None:
    line = pipeline(tmp_path, Upper(2), step := Upper(0), Upper(3))
    facts = run(line)
    assert step.log == ["q0"]
    assert [f.parts for f in facts] == [5, 1, 4]


def test_chains_of_a_question_stay_together_whatever_the_chunks(tmp_path: Path) -> None:
    for size in (1, 2, 3, 4, 7, 0):
        line = pipeline(tmp_path, Upper(5), Upper(size))
        run(line)
        parts = list(line.nodes[-1].store.read(line.nodes[-1].facts.parts))
        asked = [r.question.id for part in parts for r in part[::CHAINS]]
        assert asked == [f"q{n}" for n in range(QUESTIONS)]
        assert all(len(part) % CHAINS == 0 for part in parts)


def test_no_more_chunks_are_in_work_than_allowed(tmp_path: Path) -> None:
    at_work = most = 0

    @dataclass(frozen=True)
    class Slow(Upper):
        async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0.01)
            at_work -= 1
            return [(r, "") for r in records]

    run(pipeline(tmp_path, Slow(1), ahead=3))
    assert most == 3


def test_a_slow_step_holds_the_steps_before_it_back(tmp_path: Path) -> None:
    """Back-pressure: nobody reads the whole source while the last step is at its first chunk."""
    first = Upper(1)
    seen: list[int] = []

    @dataclass(frozen=True)
    class Slow(Upper):
        async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
            await asyncio.sleep(0.02)
            seen.append(len(first.log))
            return [(r, "") for r in records]

    run(pipeline(tmp_path, first, Slow(1), questions=60, ahead=2))
    assert seen[0] <= 10
    assert seen[-1] == 60


def test_progress_rises_to_one(tmp_path: Path) -> None:
    told: list[float] = []
    run(pipeline(tmp_path, Upper(2), Upper(3), on_progress=lambda share, _: told.append(share)))
    assert told[0] < 0.5
    assert told[-1] == 1.0


def test_nothing_left_is_no_error_of_the_pipeline(tmp_path: Path) -> None:
    first = FilterStep("all", cast(Any, DropAll()))
    line = pipeline(tmp_path, first, Upper(3))
    facts = run(line)
    assert (facts[0].kept, facts[1].records, facts[1].parts) == (0, 0, 0)
    assert list(line.records()) == []


@dataclass(frozen=True)
class DropAll:
    """Keeps nothing."""

    def judge(self, records: Sequence[Candidate], context: FilterContext) -> Iterator[Judged]:
        yield from ((r, "no") for r in records)


def test_what_a_step_says_it_uses_must_be_known(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Wrong(Upper):
        DEPENDS_ON: ClassVar[tuple[str, ...]] = ("weather",)

    with pytest.raises(InvariantError, match="weather"):
        pipeline(tmp_path, Wrong())


def test_every_field_survives_the_files(tmp_path: Path) -> None:
    full = Candidate(
        Question("q", (Message("system", "s"), Message("user", "ü")), "073", "math", "x", {"a": 1}),
        "think\u2028", "\\boxed{1}", np.array([3, 1], np.int32), TokenBudget(8), 2, "r1",
        Outcome.UNPARSABLE, 0.25, np.array([-0.5, -1.25], np.float32), None, (1, 2),
    )  # fmt: skip
    bare = Candidate(Question("b", (), "1"), "", "", np.empty(0, np.int32))
    write_judged(tmp_path / "x.parquet", [(full, "too_long"), (bare, "")])
    (back, reason), (back_bare, none) = read_judged(tmp_path / "x.parquet")
    assert (reason, none) == ("too_long", "")
    assert back.question == full.question
    assert back.tokens_T.tolist() == [3, 1]
    assert back.teacher_logprobs_T is not None
    assert back.teacher_logprobs_T.tolist() == [-0.5, -1.25]
    assert back.student_logprobs_T is None
    same = ("think", "answer_text", "budget", "attempts", "origin", "verdict", "pass_rate")
    for name in (*same, "sentence_ends"):
        assert getattr(back, name) == getattr(full, name), name
    assert (back_bare.budget, back_bare.verdict, back_bare.pass_rate) == (NO_BUDGET, None, None)


def test_a_configuration_names_steps_and_selections() -> None:
    steps = make_steps(["grade", {"length": {"max_tokens": 4}}, "near_duplicates"])
    assert [name for name, _ in steps] == ["grade", "length", "near_duplicates"]
    assert [step.questions > 0 for _, step in steps] == [True, True, False]
    line = asyncio.run(steps[1][1].run(list(records(6)), tools()))
    assert [r.question.id for r, reason in line if reason] == ["q0", "q4", "q5", "q5"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("lenght", "no known step"),
        ({"length": {}, "correct": {}}, "must be a step's name"),
        ({"length": {"max": 3}}, "not a parameter of length"),
        (7, "must be a step's name"),
    ],
)
def test_a_wrong_entry_is_named(entry: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_steps([entry])


def test_selections_that_compare_questions_are_known_as_such() -> None:
    from bard_ray.distill.select import WHOLE

    assert set(WHOLE) <= set(FILTERS.names())


def test_overlapping_work_counts_once_and_pauses_not_at_all():
    times = iter([1.0, 5.0, 6.0, 9.0, 11.0])
    clock = BusyClock(lambda: next(times))
    clock.start()  # at 1
    clock.start()  # while the first is running: the time does not matter
    counted = [clock.stop(), clock.stop()]  # at 5 and 6
    clock.start()  # at 9
    counted.append(clock.stop())  # at 11
    assert sum(counted) == 7.0


@dataclass(frozen=True)
class Waits(Upper):
    """Each chunk waits until all of them are in work."""

    together: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("log", "together")

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        judged = await super().run(records, tools)
        if len(self.log) == 4:
            await asyncio.sleep(0.2)
            self.together.set()
        await self.together.wait()
        return judged


def test_the_time_of_a_step_is_wall_time_and_stays_with_its_parts(tmp_path):
    (facts,) = run(pipeline(tmp_path, Waits(), ahead=4))
    alone = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("part-*.json"))]
    parts_s = [part["facts"]["seconds"] for part in alone]
    assert len(parts_s) == 4
    assert all(seconds >= 0.2 for seconds in parts_s)
    assert 0.2 <= facts.seconds < sum(parts_s)
    (again,) = run(pipeline(tmp_path, Waits(), ahead=4))
    assert again.seconds == facts.seconds
