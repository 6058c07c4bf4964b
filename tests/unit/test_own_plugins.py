"""A user's own plug-ins of the data pipeline: what they declare is checked, served and reported."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from actors.placement.plan import plan_placement
from actors.stages.order import stages_of
from actors.stages.resources import PipelineResources
from bard_ray.config.load import load
from bard_ray.config.schema import Config
from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.build_steps import build_steps, required_roles, writes_chains
from bard_ray.distill.compressor import Compressed, CompressorTools
from bard_ray.distill.filter import Candidate, FilterContext, StepResult
from bard_ray.distill.pipeline import Pipeline, RecordSource
from bard_ray.distill.step import Step, StepTools
from bard_ray.distill.steps.compress import Compress
from bard_ray.distill.teacher import EngineSpec
from bard_ray.distill.traits import FINGERPRINT_INPUTS, ROLES, Traits
from bard_ray.errors import ConfigError
from bard_ray.preflight.check import problems, warnings
from bard_ray.records import Message, Outcome, Question
from bard_ray.report.data_facts import DataReport
from bard_ray.report.data_report import write_data_report
from bard_ray.rl.versions import WeightVersions
from recipes import bard_8b, bard_tiny

HERE = __name__


@dataclass(frozen=True)
class HardestFilter:
    """Keeps the `keep` questions with the lowest pass rate."""

    keep: int = 2
    REQUIRES: ClassVar[tuple[str, ...]] = ("pass_rate",)
    COMPARES_QUESTIONS: ClassVar[bool] = True

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        everything = list(records)
        context.counters["calls"] += 1
        context.counters["records"] += len(everything)
        kept = sorted(everything, key=lambda record: record.pass_rate or 0.0)[: self.keep]
        names = {record.question.id for record in kept}
        for record in everything:
            yield record, "" if record.question.id in names else "not_among_the_hardest"


@dataclass(frozen=True)
class PlainFilter:
    """Declares nothing and keeps everything."""

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        context.counters["calls"] += 1
        yield from ((record, "") for record in records)


@dataclass(frozen=True)
class StudentsTaste(PlainFilter):
    """Depends on the student's weights."""

    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("student",)


@dataclass(frozen=True)
class OwnGrading:
    """Calls every chain correct, by its own means."""

    REQUIRES: ClassVar[tuple[str, ...]] = ("think",)
    ADDS: ClassVar[tuple[str, ...]] = ("verdict",)
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ()

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        return [(replace(record, verdict=Outcome.CORRECT), "") for record in records]


@dataclass(frozen=True)
class OwnChains:
    """Writes one chain per question without a teacher."""

    chains: int = 1
    ADDS: ClassVar[tuple[str, ...]] = ("think",)

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        return [(replace(record, think="a1"), "") for record in records]


@dataclass(frozen=True)
class Scoring:
    """Uses the student and the reference worker."""

    ROLES: ClassVar[tuple[str, ...]] = ("student", "reference")

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        return [(record, "") for record in records]


@dataclass(frozen=True)
class Paraphrase:
    """A compressor with a writer, for the synthetic task, that counts what it saves."""

    ROLES: ClassVar[tuple[str, ...]] = ("writer",)
    REQUIRES: ClassVar[tuple[str, ...]] = ("verdict",)
    SYNTHETIC_ONLY: ClassVar[bool] = True

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], tools: CompressorTools
    ) -> list[Compressed]:
        tools.counters["characters_saved"] += len(chain.think) - 1
        return [Compressed(budget, "w", "\\boxed{1}") for budget in budgets]


@dataclass(frozen=True)
class ServedBackend:
    """A backend of the user's own that rollout workers serve."""

    model: str

    @property
    def spec(self) -> EngineSpec:
        return EngineSpec(self.model, workers=2, cpus=0.5)

    async def open(self, name: str, host: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class NoMethod:
    """Neither a filter nor a step."""


@dataclass(frozen=True)
class WrongRequires:
    """Declares a text where a tuple belongs."""

    REQUIRES: ClassVar[Any] = "verdict"

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        yield from ()


@dataclass(frozen=True)
class WrongRole:
    """Declares a role that does not exist."""

    ROLES: ClassVar[tuple[str, ...]] = ("refrence",)

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        return []


def steps(*entries: object) -> str:
    return f"distill.steps={json.dumps(entries)}"


def own(kind: type) -> str:
    return f"{HERE}:{kind.__name__}"


def found(*overrides: str, config: Config | None = None) -> list[ConfigError]:
    return problems(load(config or bard_tiny.config(), overrides))


SAMPLED: dict[str, Any] = {"sample_student": {"samples": 4, "max_new_tokens": 60}}


def test_an_own_filter_that_reads_a_field_needs_a_step_before_it_that_adds_it() -> None:
    (problem,) = found(steps("teach", own(HardestFilter), SAMPLED))
    assert problem.field == "distill.steps"
    assert f"has {own(HardestFilter)}, which reads pass_rate" in problem.rule
    assert problem.fix.startswith(f"Put sample_student before {own(HardestFilter)}")
    assert found(steps("teach", SAMPLED, {own(HardestFilter): {"keep": 5}})) == []
    # New chains come without what was added to the old records.
    (problem,) = found(steps(SAMPLED, "teach", own(HardestFilter)))
    assert "reads pass_rate" in problem.rule


def test_an_own_step_can_add_what_built_in_filters_read() -> None:
    assert found(steps("teach", own(OwnGrading), "correct")) == []
    (problem,) = found(steps("teach", "correct", own(OwnGrading)))
    assert "has correct, which reads verdict" in problem.rule
    (problem,) = found(steps(own(OwnGrading), "teach"))
    assert "reads think" in problem.rule
    assert problem.fix == f"Put teach before {own(OwnGrading)}."


def test_an_own_step_can_write_the_chains_instead_of_a_teacher() -> None:
    overrides = [steps(own(OwnChains), "grade"), "distill.teachers={}"]
    assert found(*overrides) == []
    assert writes_chains(load(bard_tiny.config(), overrides).distill)
    (problem,) = found(steps("near_duplicates"), "distill.teachers={}")
    assert "no step that writes chains" in problem.rule


def test_an_own_compressor_declares_writer_fields_and_task() -> None:
    name = f"distill.compressor.name={own(Paraphrase)}"
    assert [p.field for p in found(name, steps("teach", "grade"))] == ["distill.compressor.writer"]
    given = [name, "distill.compressor.writer=clean"]
    assert found(*given, steps("teach", "grade")) == []
    (problem,) = found(*given, steps("teach"))
    assert f"has {own(Paraphrase)}, which reads verdict" in problem.rule
    writer = [name, "distill.compressor.writer=qwen3", steps("teach", "grade")]
    (problem,) = found(*writer, config=bard_8b.config())
    assert (problem.field, "synthetic task" in problem.rule) == ("distill.compressor.name", True)


def test_teachers_of_the_synthetic_task_are_refused_for_other_data() -> None:
    (problem,) = found("distill.teachers.toy={backend: exact}", config=bard_8b.config())
    assert problem.field == "distill.teachers.toy"
    assert "only knows the synthetic task" in problem.rule


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (WrongRequires, r"WrongRequires\.REQUIRES = 'verdict': must be a tuple of names"),
        (WrongRole, r"WrongRole\.ROLES = \('refrence',\): holds 'refrence', which is unknown"),
    ],
)
def test_wrong_declarations_are_refused_before_anything_starts(kind: type, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_steps([own(kind)])
    assert any(kind.__name__ in problem.field for problem in found(steps("teach", own(kind))))


@pytest.mark.parametrize(
    ("declared", "rule"),
    [
        ("chains", "must be a tuple of names"),
        (("chains",), "holds 'chains', which is unknown"),
    ],
)
def test_a_class_without_parameters_has_none_to_leave_out(
    monkeypatch: pytest.MonkeyPatch, declared: object, rule: str
) -> None:
    monkeypatch.setattr(PlainFilter, "NOT_FINGERPRINTED", declared, raising=False)
    (problem,) = [p for p in found(steps("teach", own(PlainFilter))) if "NOT_FINGER" in p.field]
    assert problem.field == f"{HERE}:PlainFilter.NOT_FINGERPRINTED"
    assert problem.rule == rule
    assert problem.fix == "Leave it out: PlainFilter has no parameters."


def test_a_class_that_is_neither_filter_nor_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither the method apply of a filter nor") as caught:
        build_steps(["teach", own(NoMethod)])
    assert caught.value.field == "distill.steps[1]"


def test_what_a_class_leaves_out_has_its_default() -> None:
    assert Traits.of(PlainFilter) == Traits()
    assert Traits.of(PlainFilter()).depends_on == Traits().depends_on
    assert Traits.of(HardestFilter).compares_questions


def test_roles_that_an_own_step_declares_are_planned_and_started(tmp_path: Path) -> None:
    config = load(bard_tiny.config(), ["rl.kl_coef=0", steps("teach", own(Scoring))])
    assert {role.name for role in plan_placement(config).roles} >= {"rollout", "reference"}
    assert required_roles(config.distill) == {"teacher", "student", "reference"}
    started: list[set[str]] = []
    assert asyncio.run(ask_for("student", required_roles(config.distill), started)) == "student"
    assert started == [{"rollout", "reference", "verifier"}]


def test_a_role_that_no_step_declares_is_refused_with_the_fix() -> None:
    started: list[set[str]] = []
    with pytest.raises(ConfigError, match="a step uses the reference") as caught:
        asyncio.run(ask_for("reference", {"teacher", "student"}, started))
    assert caught.value.fix == 'Add "reference" to ROLES of the class of that step.'
    assert started == []


async def ask_for(role: str, declared: Iterable[str], started: list[set[str]]) -> object:
    """What the resources of a run give for a role; `started` gets the roles that were started."""

    async def start(names: set[str]) -> None:
        started.append(names)

    async def load_weights(*_: object) -> None:
        pass

    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ready.set_result(None)

    class Sampler(str):
        load = staticmethod(load_weights)

    context = SimpleNamespace(
        deployment=SimpleNamespace(start=start),
        roles=SimpleNamespace(sampling_ready=ready, sampler=Sampler("student")),
        weights_before=lambda stage: "weights",
        versions=WeightVersions(),
    )
    resources = PipelineResources(cast(Any, context), set(declared), Path())
    return await (resources.student() if role == "student" else resources.reference(""))


def test_models_that_an_own_backend_serves_are_planned() -> None:
    entry = f"distill.teachers.own={{backend: '{own(ServedBackend)}', model: m}}"
    plan = plan_placement(load(bard_tiny.config(), [entry]))
    assert {name: spec.workers for name, spec in plan.teachers.items()} == {"own": 2}


def record(number: int) -> Candidate:
    question = Question(f"q{number}", (Message("user", f"{number}?"),), "1")
    tokens_T = np.arange(4, dtype=np.int32)
    return Candidate(question, "abcd", "\\boxed{1}", tokens_T, pass_rate=number % 97 / 97)


class Letters:
    """A tokenizer whose tokens are letters."""

    def text_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.zeros(len(text), np.int32) for text in texts]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]


async def unused(*_: object) -> Any:
    raise NotImplementedError


def run(root: Path, questions: int, *line: tuple[str, Step]) -> list[Any]:
    source = RecordSource("source", questions, lambda: map(record, range(questions)))
    tools = StepTools(
        0, "", cast(Any, Letters()), (4, 8), FilterContext(), unused, unused, unused, unused
    )
    return asyncio.run(Pipeline(root, source, line, tools, {}).run())


def test_an_own_filter_that_compares_questions_sees_all_of_them(tmp_path: Path) -> None:
    line = build_steps([{own(HardestFilter): {"keep": 3}}, own(PlainFilter)])
    hardest, plain = run(tmp_path, 600, *line)
    assert hardest.counters == {"calls": 1, "records": 600}
    assert (hardest.kept, hardest.parts) == (3, 1)
    assert plain.counters == {"calls": 1}
    (plain,) = run(tmp_path / "plain", 600, *build_steps([own(PlainFilter)]))
    assert plain.counters == {"calls": 3}, "256, 256 and 88 questions"


def test_a_filter_depends_on_the_evaluation_and_on_what_it_declares(tmp_path: Path) -> None:
    def depends_on(kind: type, **changed: str) -> tuple[dict[str, str], str]:
        inputs = {"student": "weights", "evaluation": "questions", "seed": "0"} | changed
        source = RecordSource("source", 0, lambda: iter(()))
        line = Pipeline(tmp_path, source, build_steps([own(kind)]), cast(Any, None), inputs)
        return line.nodes[0].identity["depends_on"], line.nodes[0].store.key

    assert depends_on(PlainFilter)[0] == {"evaluation": "questions"}
    assert depends_on(PlainFilter) == depends_on(PlainFilter, student="others")
    declared = {"evaluation": "questions", "student": "weights"}
    assert depends_on(StudentsTaste)[0] == declared
    keys = {depends_on(StudentsTaste, student=s, seed=n)[1] for s in "ab" for n in "12"}
    assert len(keys) == 2, "the weights change the key, the seed does not"


def test_a_filter_that_depends_on_the_student_needs_its_weights() -> None:
    def stages(kind: type) -> list[str]:
        entries = steps("teach", own(kind))
        corpus = ["run.goal=corpus", "distill.teacher=clean", entries]
        return [stage.name for stage in stages_of(load(bard_tiny.config(), corpus))]

    assert stages(PlainFilter) == ["data", "distill"]
    assert stages(StudentsTaste) == ["data", "base", "distill"]


def test_figures_of_own_plug_ins_are_in_the_data_report(tmp_path: Path) -> None:
    compress: Step = Compress(Paraphrase(), ALLOCATIONS.build("uniform", {}), 2)
    line = [*build_steps([own(HardestFilter)]), ("compress", compress)]
    facts = run(tmp_path, 300, *line)
    assert [f.counters for f in facts] == [
        {"calls": 1, "records": 300},
        {"characters_saved": 2 * 3},  # two questions of four letters
    ]
    teachers: Mapping[str, Mapping[str, float]] = {"own": {"tool_calls": 17}}
    page = write_data_report(tmp_path / "r.html", DataReport("x", steps=facts, teachers=teachers))
    shown = page.read_text()
    for text in ("characters_saved", "tool calls", ">17<", ">300<"):
        assert text in shown, text
    written = json.loads(page.with_suffix(".json").read_text())
    assert written["steps"][1]["counters"] == {"characters_saved": 6}


HINDSIGHT = "distill.compressor.name=hindsight"


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [
        ([HINDSIGHT, steps("teach")], True),
        ([HINDSIGHT, steps({"teach": {"chains": 8}})], False),
        ([HINDSIGHT, steps(own(OwnChains)), "distill.teachers={}"], True),
        ([HINDSIGHT, steps({own(OwnChains): {"chains": 2}}), "distill.teachers={}"], False),
        ([steps("teach")], False),
    ],
)
def test_one_budget_per_chain_and_one_chain_per_question_is_a_warning(
    overrides: list[str], warned: bool
) -> None:
    config = load(bard_tiny.config(), overrides)
    assert problems(config) == []
    notes = warnings(config)
    assert bool(notes) == warned
    assert all("no contrast" in note and "{teach: {chains: 8}}" in note for note in notes)


DOCS = (Path(__file__).resolve().parents[2] / "docs" / "distillation.md").read_text()


def test_the_documented_class_attributes_are_those_there_are() -> None:
    section = DOCS.split("\n## Your own plug-ins\n")[1]
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (\S.*?) \| ", section, re.MULTILINE))
    defaults = asdict(Traits())
    assert {name.lower() for name in rows} == set(defaults)
    for name, default in rows.items():
        value = defaults[name.lower()]
        assert default == ("all of them" if name == "DEPENDS_ON" else f"`{value}`"), name
    for name in (*FINGERPRINT_INPUTS, *ROLES):
        assert f"`{name}`" in section, name


def test_the_documented_filter_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = re.findall(r"```python\n# my_filters\.py\n(.*?)```", DOCS, re.DOTALL)
    (tmp_path / "my_filters.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    mine = {"my_filters:Hardest": {"keep": 5}}
    assert found(steps("teach", SAMPLED, mine)) == []
    assert len(found(steps("teach", mine))) == 1
    (facts,) = run(tmp_path / "store", 400, *build_steps([mine]))
    assert (facts.kept, facts.dropped) == (5, {"easier_than_others": 395})
    assert facts.counters == {"questions": 400}
