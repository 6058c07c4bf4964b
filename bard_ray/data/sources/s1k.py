"""s1K and s1K-1.1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bard_ray.data.reading import (
    boxed_or_short,
    gold_answer,
    user_question,
    with_meta,
)
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherChain, TeacherRow

_COLUMNS = {  # teacher -> thought, attempt, grade
    "deepseek": ("deepseek_thinking_trajectory", "deepseek_attempt", "deepseek_grade"),
    "gemini": ("gemini_thinking_trajectory", "gemini_attempt", "gemini_grade"),
}


@SOURCES.register("s1k")
@dataclass(frozen=True)
class S1K(Source):
    """1,000 problems with the thinking and the attempt of one or two teachers in columns.

    Attempts that the data set grades as wrong are skipped. The first version, whose thinking is the
    list `thinking_trajectories`, is supported too. Source: data set cards.

    Attributes:
        teachers: teachers whose chains are read, from `deepseek` and `gemini`.
    """

    teachers: tuple[str, ...] = ("deepseek",)

    question_columns = ("question", "solution", "cot_type")
    chain_columns = (
        *(name for columns in _COLUMNS.values() for name in columns),
        "thinking_trajectories",
        "attempt",
    )
    lenient = True
    hubs = (Hub("simplescaling/s1K-1.1"), Hub("simplescaling/s1K"))
    trap = (
        "`solution` is the gold answer, at times a whole proof; thought and answer are two columns."
    )

    def __post_init__(self) -> None:
        unknown = sorted(set(self.teachers) - set(_COLUMNS))
        if unknown or not self.teachers:
            msg = f"teachers must be among {', '.join(_COLUMNS)}, not {list(self.teachers)}"
            raise ValueError(msg)

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question with the chains of the selected teachers."""
        given = boxed_or_short(row.text("solution"))
        chains = self._chains(row) if need_chains or not given else ()
        answer, meta = gold_answer(given, chains)
        if not answer:
            return row.skip("no short gold answer")
        question = user_question(row, row.text("question"), answer)
        meta["cot_type"] = row.optional("cot_type", default="unknown")
        return (TeacherRow(with_meta(question, meta), chains if need_chains else ()),)

    def _chains(self, row: Row) -> tuple[TeacherChain, ...]:
        found = [_chain(row, *_COLUMNS[teacher], teacher) for teacher in self.teachers]
        if "thinking_trajectories" in row.record:
            thoughts, attempt = row.items("thinking_trajectories"), row.optional("attempt")
            found += [TeacherChain(str(t), attempt, "gemini") for t in thoughts if attempt]
        return tuple(chain for chain in found if chain)


def _chain(row: Row, think: str, attempt: str, grade: str, teacher: str) -> TeacherChain | None:
    if row.optional(grade, default="yes").strip().lower() != "yes":
        return None
    texts = row.optional(think), row.optional(attempt)
    return TeacherChain(texts[0], texts[1].rstrip(), teacher) if all(texts) else None
