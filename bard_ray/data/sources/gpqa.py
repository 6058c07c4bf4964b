"""GPQA."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bard_ray.data.choices import choice_question
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherRow
from bard_ray.errors import DataError
from bard_ray.plugins import require_within

_INCORRECT = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


@SOURCES.register("gpqa")
@dataclass(frozen=True)
class Gpqa(Source):
    """Graduate-level multiple-choice questions; this format adds the letters of the options.

    The order of the options is a function of (seed, id), so it does not depend on other rows or on
    the run. Source: column meanings from the data set card; the order is ours.

    Attributes:
        seed: seed of the order of the options.
    """

    seed: int = 0

    question_columns = ("Record ID", "Question", "Correct Answer", *_INCORRECT)
    hubs = (
        Hub("Idavidrein/gpqa", "gpqa_diamond"),
        Hub("Idavidrein/gpqa", "gpqa_main"),
        Hub("Idavidrein/gpqa", "gpqa_extended"),
    )
    trap = "Gated; has no letters, so the reader orders the options; cells have stray white space."

    def __post_init__(self) -> None:
        require_within("seed", self.seed, 0)

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question with its options in order."""
        text = row.text("Question").strip()
        incorrect = [row.text(column) for column in _INCORRECT]
        item_id = row.optional("Record ID", default=text)
        try:
            question = choice_question(
                item_id, text, row.text("Correct Answer"), incorrect, self.seed
            )
        except DataError as error:
            raise row.error(error.problem, error.fix) from error
        return (TeacherRow(replace(question, source=row.source)),)
