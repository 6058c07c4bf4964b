"""The data pipeline: what is computed, stored and computed again, and how much is in flight."""

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

from bard_ray.distill.build_steps import FilterStep, build_steps
from bard_ray.distill.filter import Candidate, FilterContext, StepResult
from bard_ray.distill.pipeline import BusyClock, Pipeline, RecordSource
from bard_ray.distill.step import Step, StepTools, chunk_questions
from bard_ray.distill.store import StepFacts
from bard_ray.distill.table import read_records, write_records
from bard_ray.errors import ConfigError, DataError
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
    def chunk_questions(self) -> int:
        return self.size

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        self.log.append(records[0].question.id)
        await asyncio.sleep(0)
        return [
            (replace(r, think=r.think.upper()), "bad" if r.tokens_T.size == self.bad else "")
            for r in records
        ]


@dataclass(frozen=True)
class Breaks(Upper):
    """Fails at one question, like a process that is killed there."""

    at: str = ""
    NOT_FINGERPRINTED: ClassVar[tuple[str, ...]] = ("log", "at")

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        if any(r.question.id == self.at for r in records):
            msg = "killed"
            raise ConnectionError(msg)
        return await super().run(records, tools)


async def never(*_: object) -> Any:
    msg = "no test requests for this"
    raise AssertionError(msg)


def tools() -> StepTools:
    missing = cast("Callable[..., Awaitable[Any]]", never)
    return StepTools(
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


def thinks(line: Pipeline, after: int | None = None) -> list[tuple[str, str]]:
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


def test_a_second_command_computes_nothing(tmp_path: Path) -> None:
    run(pipeline(tmp_path, Upper(), Upper(4)))
    steps = Upper(), Upper(4)
    line = pipeline(tmp_path, *steps)
    facts = run(line)
    assert [step.log for step in steps] == [[], []]
    assert [f.reused for f in facts] == [f.parts for f in facts]
    assert len(thinks(line)) == 20


def test_a_changed_step_recomputes_only_itself_and_later_steps(tmp_path: Path) -> None:
    run(pipeline(tmp_path, Upper(), Upper(4), Upper(5)))
    steps = Upper(), Upper(4, bad=3), Upper(5)
    run(pipeline(tmp_path, *steps))
    assert [bool(step.log) for step in steps] == [False, True, True]


def test_another_seed_or_source_recomputes_everything(tmp_path: Path) -> None:
    run(pipeline(tmp_path, Upper()))
    other = pipeline(tmp_path, step := Upper(), questions=4)
    run(other)
    assert sorted(step.log) == ["q0", "q3"]
    source = RecordSource("source10", QUESTIONS, records)
    seeded = Pipeline(tmp_path, source, [("s0", again := Upper())], tools(), {"seed": 1})
    run(seeded)
    assert len(again.log) == 4


@pytest.mark.parametrize("at", ["q0", "q4", "q9"])
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(tmp_path: Path, at: str) -> None:
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


def test_incomplete_and_damaged_parts_are_computed_again(tmp_path: Path) -> None:
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


def test_of_a_complete_step_a_lost_file_is_computed_again_and_a_damaged_one_is_an_error(
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


def test_a_step_with_chunks_of_0_gets_all_questions(tmp_path: Path) -> None:
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


def test_the_number_of_chunks_in_flight_is_bounded(tmp_path: Path) -> None:
    at_work = most = 0

    @dataclass(frozen=True)
    class Slow(Upper):
        async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0.01)
            at_work -= 1
            return [(r, "") for r in records]

    run(pipeline(tmp_path, Slow(1), ahead=3))
    assert most == 3


def test_a_slow_step_holds_earlier_steps_back(tmp_path: Path) -> None:
    """Back-pressure: the source is not read ahead while the last step is at its first chunk."""
    first = Upper(1)
    seen: list[int] = []

    @dataclass(frozen=True)
    class SlowLast(Upper):
        async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
            await asyncio.sleep(0.02)
            seen.append(len(first.log))
            return [(r, "") for r in records]

    run(pipeline(tmp_path, first, SlowLast(1), questions=60, ahead=2))
    assert seen[0] <= 10
    assert seen[-1] == 60


def test_progress_rises_to_one(tmp_path: Path) -> None:
    shares: list[float] = []
    run(pipeline(tmp_path, Upper(2), Upper(3), on_progress=lambda share, _: shares.append(share)))
    assert shares[0] < 0.5
    assert shares[-1] == 1.0


def test_a_pipeline_may_drop_everything(tmp_path: Path) -> None:
    first = FilterStep("all", cast(Any, DropAll()))
    line = pipeline(tmp_path, first, Upper(3))
    facts = run(line)
    assert (facts[0].kept, facts[1].records, facts[1].parts) == (0, 0, 0)
    assert list(line.records()) == []


@dataclass(frozen=True)
class DropAll:
    """Keeps nothing."""

    def apply(self, records: Sequence[Candidate], context: FilterContext) -> Iterator[StepResult]:
        yield from ((r, "no") for r in records)


def test_an_unknown_name_in_depends_on_is_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Wrong(Upper):
        DEPENDS_ON: ClassVar[tuple[str, ...]] = ("weather",)

    with pytest.raises(ConfigError, match=r"Wrong\.DEPENDS_ON .* 'weather', which is unknown"):
        pipeline(tmp_path, Wrong())


def test_every_field_survives_the_files(tmp_path: Path) -> None:
    full = Candidate(
        Question("q", (Message("system", "s"), Message("user", "ü")), "073", "math", "x", {"a": 1}),
        "think\u2028", "\\boxed{1}", np.array([3, 1], np.int32), TokenBudget(8), 2, "r1",
        Outcome.UNPARSABLE, 0.25, np.array([-0.5, -1.25], np.float32), None, (1, 2),
    )  # fmt: skip
    bare = Candidate(Question("b", (), "1"), "", "", np.empty(0, np.int32))
    write_records(tmp_path / "x.parquet", [(full, "too_long"), (bare, "")])
    (back, reason), (back_bare, none) = read_records(tmp_path / "x.parquet")
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


def test_a_configuration_names_steps_and_filters() -> None:
    steps = build_steps(["grade", {"length": {"max_tokens": 4}}, "near_duplicates"])
    assert [name for name, _ in steps] == ["grade", "length", "near_duplicates"]
    assert [chunk_questions(step) > 0 for _, step in steps] == [True, True, False]
    results = asyncio.run(steps[1][1].run(list(records(6)), tools()))
    assert [r.question.id for r, reason in results if reason] == ["q0", "q4", "q5", "q5"]


@pytest.mark.parametrize(
    ("entry", "field", "words"),
    [
        ("lenght", "distill.steps[1]", "not a known step"),
        ({"length": {}, "correct": {}}, "distill.steps[1]", "must be a step's name"),
        ({"length": {"max": 3}}, "distill.steps[1].length.max", "not a parameter of length"),
        ({"length": {"min_tokens": -1}}, "distill.steps[1].length", "must be at least 0"),
        (7, "distill.steps[1]", "must be a step's name"),
        ("no_such_module:Filter", "distill.steps[1]", "cannot be imported"),
    ],
)
def test_a_wrong_entry_is_named(entry: object, field: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        build_steps(["grade", entry])
    assert caught.value.field == field
    assert "params" not in caught.value.fix


@dataclass(frozen=True)
class Counts(Upper):
    """Counts its records, some of them as a share."""

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        tools.counters["seen"] += len(records)
        if records[0].question.id == "q0":
            tools.counters["first"] += 0.5
        return await super().run(records, tools)


def test_counters_of_a_step_are_summed_over_its_chunks_and_survive_a_kill(tmp_path: Path) -> None:
    first, second = run(pipeline(tmp_path, Counts(3), Upper(3)))
    assert first.counters == {"seen": 20, "first": 0.5}
    assert second.counters == {}
    manifest = tmp_path / f"s0-{first.key[:16]}" / "manifest.json"
    manifest.unlink()  # as if killed before the end: parts are read again
    again = run(pipeline(tmp_path, step := Counts(3), Upper(3)))
    assert step.log == []
    assert again[0].counters == first.counters


def test_records_before_the_first_step_are_those_of_the_source(tmp_path: Path) -> None:
    line = pipeline(tmp_path, Upper(3))
    run(line)
    assert thinks(line, after=0)[:2] == [("q0", "thought 0"), ("q0", "thought 1")]
    assert thinks(line, after=1) == thinks(line)
    assert thinks(line)[0] == ("q0", "THOUGHT 0")


def test_overlapping_work_counts_once_and_pauses_not_at_all() -> None:
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

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        results = await super().run(records, tools)
        if len(self.log) == 4:
            await asyncio.sleep(0.2)
            self.together.set()
        await self.together.wait()
        return results


def test_the_time_of_a_step_is_wall_time_and_stays_with_its_parts(tmp_path: Path) -> None:
    (facts,) = run(pipeline(tmp_path, Waits(), ahead=4))
    alone = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("part-*.json"))]
    parts_s = [part["facts"]["seconds"] for part in alone]
    assert len(parts_s) == 4
    assert all(seconds >= 0.2 for seconds in parts_s)
    assert 0.2 <= facts.seconds < sum(parts_s)
    (again,) = run(pipeline(tmp_path, Waits(), ahead=4))
    assert again.seconds == facts.seconds
