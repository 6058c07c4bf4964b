"""Question sets with one row per question: question, gold answer, and optionally an id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from bard_ray.data.reading import user_question, with_meta
from bard_ray.data.source import Row, Source, TeacherRow
from bard_ray.records import AnswerKind


class FlatSource(Source):
    """Base class of question sets.

    Attributes:
        ids, questions, answers: names of a column, in order of preference, because mirrors of one
            data set differ in them.
        meta: columns copied into the question's meta unless they are null.
        prefix: prefix of ids, so that ids of several sets do not collide.
        kind: kind of the answers.
        null_answer: the reason to skip rows whose answer is null; empty: they are an error.
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
        """The question, without chains."""
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
            DataError: the answer is not valid for this set.
        """
        return answer
