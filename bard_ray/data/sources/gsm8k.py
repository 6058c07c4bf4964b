"""GSM8K."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bard_ray.data.chain import answer_text
from bard_ray.data.reading import user_question
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherChain, TeacherRow

_MARK = "####"
_CALCULATOR = re.compile(r"<<[^<>]*>>")


@SOURCES.register("gsm8k")
@dataclass(frozen=True)
class Gsm8k(Source):
    """School problems; the answer column is a worked solution that ends in `#### 72`.

    The solution, without calculator annotations such as `<<48/2=24>>`, is a human-written chain.
    Source: data set card.
    """

    question_columns = ("question", "answer")
    hubs = (Hub("openai/gsm8k", "main"), Hub("openai/gsm8k", "main", "test"))
    trap = "The number stands after `####`, with commas in thousands."

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question with the number as its answer."""
        solution, mark, number = row.text("answer").rpartition(_MARK)
        gold = number.strip().replace(",", "")
        if not mark or not gold:
            fix = "If the data set has another format, set data.rows.format."
            raise row.error(f"column 'answer' does not end in '{_MARK} number'", fix)
        question = user_question(row, row.text("question"), gold)
        think = _CALCULATOR.sub("", solution).strip()
        chains = (TeacherChain(think, answer_text(gold), "human"),) if think else ()
        return (TeacherRow(question, chains if need_chains else ()),)
