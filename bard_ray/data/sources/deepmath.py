"""DeepMath-103K."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bard_ray.data.reading import user_question, with_meta, worked_chain
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherRow

_SOLUTIONS = ("r1_solution_1", "r1_solution_2", "r1_solution_3")


@SOURCES.register("deepmath")
@dataclass(frozen=True)
class DeepMath(Source):
    """Hard problems with three solutions of DeepSeek-R1 each. Source: data set card."""

    question_columns = ("question", "final_answer", "difficulty", "topic")
    chain_columns = _SOLUTIONS
    hubs = (Hub("zwhe99/DeepMath-103K"),)
    trap = "No column is called answer; a solution may come without think tags."

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question with its solutions."""
        answer = row.text("final_answer").strip()
        question = user_question(row, row.text("question"), answer)
        meta = {name: row.optional(name) for name in ("difficulty", "topic")}
        texts = [row.optional(column) for column in _SOLUTIONS] if need_chains else []
        chains = tuple(worked_chain(text, answer, "DeepSeek-R1") for text in texts if text)
        return (TeacherRow(with_meta(question, meta), chains),)
