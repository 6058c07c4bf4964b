"""OpenR1-Math."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bard_ray.data.reading import tagged_chain, user_question, with_meta
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherChain, TeacherRow


@SOURCES.register("openr1")
@dataclass(frozen=True)
class OpenR1(Source):
    """Several generations of DeepSeek-R1 per question, each with its judgments.

    A generation is a chain if math-verify judged it correct, it is complete, and it closes its
    think tag and answers. Source: column meanings from the data set card.
    """

    question_columns = ("uuid", "problem", "answer", "problem_type")
    chain_columns = ("generations", "correctness_math_verify", "is_reasoning_complete")
    hubs = (
        Hub("open-r1/OpenR1-Math-220k", "default"),
        Hub("open-r1/OpenR1-Math-220k", "extended"),
    )
    trap = (
        "Lists run in parallel, one entry a generation; some are wrong or cut off; uuid may be NaN."
    )

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question with its correct and complete generations."""
        text, uuid = row.text("problem"), row.optional("uuid", default="nan")
        item_id = "" if uuid.lower() == "nan" else uuid
        question = user_question(row, text, row.text("answer"), item_id=item_id)
        meta = {"problem_type": row.optional("problem_type", default="unknown")}
        return (TeacherRow(with_meta(question, meta), _chains(row) if need_chains else ()),)


def _chains(row: Row) -> tuple[TeacherChain, ...]:
    generations = row.items("generations")
    correct, complete = row.items("correctness_math_verify"), row.items("is_reasoning_complete")
    if correct and complete and not len(generations) == len(correct) == len(complete):
        judged = f"{len(correct)} and {len(complete)} judgments"
        problem = f"has {len(generations)} generations but {judged}"
        raise row.error(problem, "Fix or remove the row.")
    chains = [
        tagged_chain(str(generation), "DeepSeek-R1")
        for generation, *judgments in zip(generations, correct, complete, strict=False)
        if all(judgments)
    ]
    return tuple(chain for chain in chains if chain)
