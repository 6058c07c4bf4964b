"""Question sets with one row a question: a question column, a gold answer column, perhaps an id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from bard_ray.data.reading import user_question, with_meta
from bard_ray.data.source import Row, Source, TeacherRow
from bard_ray.records import AnswerKind


class FlatSource(Source):
    """Base of a question set.

    Attributes:
        ids, questions, answers: names of a column, in order of preference: mirrors of one data set
            differ in them.
        meta: columns that go into the question's meta, where they are not null.
        prefix: put before an id, so that ids of several sets do not meet.
        kind: of the answers.
        null_answer: why rows whose answer is null are left out; empty: they are an error.
    """

    ids: ClassVar[tuple[str, ...]] = ("id",)
    questions: ClassVar[tuple[str, ...]] = ("problem",)
    answers: ClassVar[tuple[str, ...]] = ("answer",)
    meta: ClassVar[tuple[str, ...]] = ()
    prefix: ClassVar[str] = ""
    kind: ClassVar[AnswerKind] = "math"
    null_answer: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.question_columns = (*cls.ids, *cls.questions, *cls.answers, *cls.meta)

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question; a set of this kind has no chains."""
        if self.null_answer and not row.optional(*self.answers):
            return row.skip(self.null_answer)
        text, item_id = row.text(*self.questions), row.optional(*self.ids)
        answer = self.gold(row, row.text(*self.answers).strip())
        question = user_question(
            row, text, answer, self.kind, item_id and f"{self.prefix}{item_id}"
        )
        meta = {name: row.optional(name) for name in self.meta}
        return (TeacherRow(with_meta(question, meta)),)

    def gold(self, row: Row, answer: str) -> str:
        """The gold answer as it is graded.

        Raises:
            DataError: it cannot be one.
        """
        return answer
