"""This project's own row format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bard_ray.data.chain import answer_text
from bard_ray.data.reading import CLOSE_TAG, OPEN_TAG, require_kind, user_question
from bard_ray.data.source import SOURCES, Row, Source, TeacherChain, TeacherRow
from bard_ray.records import AnswerKind


@SOURCES.register("rows")
@dataclass(frozen=True)
class Rows(Source):
    r"""One chain per row: `question`, `answer` and `think`.

    Optional columns: `id`, `kind`, `answer_text`, `origin`. Without an id, rows with the same
    question text are chains of one question. `kind` defaults to math, `answer_text` to
    `\boxed{answer}`. Source: ours.
    """

    question_columns = ("id", "question", "answer", "kind")
    chain_columns = ("think", "answer_text", "origin")
    trap = "Quote answers with leading zeros; `think` must not hold the closing tag."

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question and its one chain."""
        kind = _kind(row)
        text, answer = row.text("question"), row.text("answer")
        question = user_question(row, text, answer, kind, row.optional("id"))
        return (TeacherRow(question, (_chain(row, answer),) if need_chains else ()),)


def _kind(row: Row) -> AnswerKind:
    kind = row.optional("kind", default="math")
    try:
        return require_kind(kind)
    except ValueError as error:
        raise row.error(f"has the unknown kind {kind!r}", f"{error}.") from error


def _chain(row: Row, answer: str) -> TeacherChain:
    think = row.text("think")
    if CLOSE_TAG in think:
        fix = "Put what follows the tag into 'answer_text'."
        raise row.error(f"column 'think' holds {CLOSE_TAG}", fix)
    think = think.partition(OPEN_TAG)[2] if OPEN_TAG in think else think
    after = row.optional("answer_text", default=answer_text(answer))
    return TeacherChain(think, after.rstrip(), row.optional("origin"))
