"""The steps teach, grade and compress: what they request for, what they keep, and why not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.compressor import (
    COMPRESSORS,
    Compressed,
    CompressorTools,
    Reason,
)
from bard_ray.distill.filter import Candidate, FilterContext, StepResult
from bard_ray.distill.step import STEPS, Step, StepTools
from bard_ray.distill.steps.compress import Compress
from bard_ray.distill.teacher import Reply, TeacherRequest
from bard_ray.distill.traits import Traits
from bard_ray.errors import ConfigError
from bard_ray.records import GradeItem, Ints, Message, Outcome, Question, TokenBudget, Verdict


class WordTokenizer:
    """A tokenizer whose tokens are words."""

    def text_ids(self, texts: Sequence[str]) -> list[Ints]:
        return [np.arange(len(text.split()), dtype=np.int32) for text in texts]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


class ScriptedTeacher:
    """A teacher that repeats its request, and cannot answer the question `lost`."""

    def __init__(self) -> None:
        self.requests: list[TeacherRequest] = []

    async def reply(self, request: TeacherRequest) -> Reply:
        self.requests.append(request)
        await asyncio.sleep(0.001 * (5 - len(self.requests) % 5))  # replies come in another order
        assert request.question is not None
        if request.question.id == "lost":
            return Reply("", "", "failed", "no")
        if request.question.id == "long":
            return Reply("on and on", "", "length")
        return Reply(f" {request.question.id} {request.seed} ", "\\boxed{1}\n")

    def counters(self) -> Mapping[str, float]:
        return {"requests": len(self.requests)}

    async def close(self) -> None:
        pass


class Even:
    """Answers of an even number are right; the first time, some cannot be graded."""

    def __init__(self) -> None:
        self.broken = {"\\boxed{4}"}

    async def grade(self, items: Sequence[GradeItem]) -> list[Verdict]:
        return [Verdict(self._outcome(item)) for item in items]

    def _outcome(self, item: GradeItem) -> Outcome:
        if item.text in self.broken:
            self.broken.discard(item.text)
            return Outcome.BROKEN
        return Outcome.WRONG if int(item.text[7]) % 2 else Outcome.CORRECT


def tools(teacher: ScriptedTeacher | None = None, seed: int = 0) -> StepTools:
    async def give_teacher(name: str) -> Any:
        assert name == "scripted"
        return teacher

    async def give_verifier() -> Any:
        return Even()

    prompts: Any = WordTokenizer()
    unused: Any = None
    given = (give_verifier, give_teacher, unused, unused)
    return StepTools(seed, "scripted", prompts, (4, 8, 16), FilterContext(), *given)


def question(name: str) -> Question:
    return Question(name, (Message("system", "be brief"), Message("user", f"{name}?")), "1")


def chain(name: str, words: int, answer: int = 1) -> Candidate:
    think = " ".join(["w"] * words)
    ids_T = np.arange(words, dtype=np.int32)
    return Candidate(question(name), think, f"\\boxed{{{answer}}}", ids_T)


def run(step: Step, records: Sequence[Candidate], with_tools: StepTools) -> list[StepResult]:
    return asyncio.run(step.run(records, with_tools))


def test_every_question_gets_its_chains_in_order_whatever_order_replies_come_in() -> None:
    step = STEPS.build("teach", {"chains": 3, "temperature": 0.0, "max_tokens": 9})
    asked = [chain(name, 0) for name in ("a", "lost", "a", "b", "long")]
    results = run(step, asked, tools(teacher := ScriptedTeacher()))
    names = [record.question.id for record, _ in results]
    assert names == ["a"] * 3 + ["lost"] * 3 + ["b"] * 3 + ["long"] * 3
    reasons = {record.question.id: reason for record, reason in results}
    assert reasons == {"a": "", "lost": "no_reply", "b": "", "long": "cut_off"}
    first, _ = results[0]
    assert (first.answer_text, first.origin) == ("\\boxed{1}", "scripted")
    assert first.think.split()[0] == "a"
    assert first.tokens_T.size == 2
    assert {(request.temperature, request.max_tokens) for request in teacher.requests} == {(0.0, 9)}


def test_seeds_depend_on_run_question_and_turn_only() -> None:
    def thinks(seed: int, *names: str) -> dict[str, list[str]]:
        step = STEPS.build("teach", {"chains": 4})
        found: dict[str, list[str]] = {}
        for record, _ in run(step, [chain(n, 0) for n in names], tools(ScriptedTeacher(), seed)):
            found.setdefault(record.question.id, []).append(record.think)
        return found

    together = thinks(0, "a", "b")
    assert thinks(0, "b")["b"] == together["b"]
    assert len(set(together["a"])) == 4
    assert thinks(1, "a")["a"] != together["a"]


def test_an_instruction_follows_the_question() -> None:
    step = STEPS.build("teach", {"instruction": "Box it."})
    run(step, [chain("a", 0)], tools(teacher := ScriptedTeacher()))
    assert [m.content for m in teacher.requests[0].messages] == ["be brief", "a?\n\nBox it."]
    assert teacher.requests[0].question == question("a")  # what is graded stays the question


@pytest.mark.parametrize("params", [{"chains": 0}, {"temperature": -1.0}, {"max_tokens": 0}])
def test_wrong_parameters_of_teach_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        STEPS.build("teach", params)


def test_grading_stores_verdicts_and_grades_broken_ones_again() -> None:
    results = run(STEPS.build("grade", {}), [chain("a", 1, n) for n in (1, 2, 4)], tools())
    assert [record.verdict for record, _ in results] == [
        Outcome.WRONG, Outcome.CORRECT, Outcome.CORRECT,
    ]  # fmt: skip
    assert all(not reason for _, reason in results)


@dataclass(frozen=True)
class Halving:
    """Cuts to half of the budget, cannot do budget 16, and notes what it was given."""

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], tools: CompressorTools
    ) -> list[Compressed]:
        words = chain.think.split()
        number = int(tools.generator.integers(1000))
        return [
            Compressed(b, f"{number} " + " ".join(words[: b // 2 - 1]), chain.answer_text)
            if b < 16
            else Compressed(b, reason="too_long", attempts=3)
            for b in budgets
        ]


@dataclass(frozen=True)
class Labels:
    """Every chain belongs to the budget of its length."""

    own_budgets: ClassVar[int] = 1

    async def compress(
        self, chain: Candidate, budgets: Sequence[int], tools: CompressorTools
    ) -> list[Compressed]:
        fits = [b for b in budgets if b >= chain.tokens_T.size][:1]
        other = [Compressed(b, reason=Reason.OTHER_BUDGET) for b in budgets if b not in fits]
        return [*other, *(Compressed(b, chain.think, chain.answer_text) for b in fits)]


def compress(compressor: Any, allocation: str = "uniform", count: int = 3) -> Compress:
    return Compress(compressor, ALLOCATIONS.build(allocation, {}), count)


def test_a_chain_becomes_one_record_per_budget() -> None:
    results = run(compress(Halving()), [chain("a", 20)], tools())
    assert [(r.budget, r.tokens_T.size, r.attempts, reason) for r, reason in results] == [
        (TokenBudget(4), 2, 0, ""),
        (TokenBudget(8), 4, 0, ""),
        (TokenBudget(16), 0, 3, "too_long"),
    ]


def test_random_numbers_of_a_chain_depend_on_its_place_in_its_question() -> None:
    def numbers(*chains: Candidate) -> list[tuple[str, str]]:
        results = run(compress(Halving()), chains, tools())
        return [(r.question.id, r.think.split()[0]) for r, reason in results if not reason]

    one, two = chain("a", 20), chain("b", 20)
    both = numbers(one, one, two)
    assert both[-2:] == numbers(two)
    assert len({number for _, number in both}) == 3  # one a chain, the same at its two budgets


def test_a_compressor_that_picks_budgets_gets_all_and_leaves_one_chain_per_budget() -> None:
    chains = [chain("a", n) for n in (3, 4, 7, 30, 12)] + [chain("b", 2)]
    results = run(compress(Labels(), count=2), chains, tools())
    kept = [(r.question.id, r.budget, r.tokens_T.size) for r, reason in results if not reason]
    assert kept == [
        ("a", TokenBudget(4), 3), ("a", TokenBudget(8), 7), ("b", TokenBudget(4), 2),
    ]  # fmt: skip
    # The second at 4, and one of a third budget; what was never tried is not there.
    assert Counter(reason for _, reason in results if reason) == {"spare": 2}


def test_a_fitted_allocation_sees_all_questions_at_once() -> None:
    step = compress(Halving(), "tied", 1)
    assert step.chunk_questions == 0
    assert compress(Halving()).chunk_questions > 0
    chains = [chain(f"q{n}", n + 1) for n in range(30)]
    results = run(step, chains, tools())
    budgets = [r.budget.tokens for r, _ in results if isinstance(r.budget, TokenBudget)]
    assert budgets == sorted(budgets)  # longer for longer chains
    assert Counter(budgets) == {4: 10, 8: 10, 16: 10}


def test_built_in_compressors_say_what_they_need() -> None:
    found = {name: Traits.of(COMPRESSORS.find(name)) for name in COMPRESSORS.names()}
    writers = {name for name, traits in found.items() if "writer" in traits.roles}
    assert writers == {"rewrite", "by_difficulty", "truncate"}
    assert {name for name, traits in found.items() if traits.synthetic_only} == {"drop_steps"}
