"""LIMO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bard_ray.data.reading import user_question, worked_chain
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherRow


@SOURCES.register("limo")
@dataclass(frozen=True)
class Limo(Source):
    """817 problems with one long solution each. Source: data set card."""

    question_columns = ("question", "answer")
    chain_columns = ("solution",)
    hubs = (Hub("GAIR/LIMO"),)
    trap = "Answers are text or integers by mirror; solutions have no think tags."

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question with its solution as the chain."""
        answer = row.text("answer").strip()
        question = user_question(row, row.text("question"), answer)
        chains = (worked_chain(row.text("solution"), answer),) if need_chains else ()
        return (TeacherRow(question, chains),)
