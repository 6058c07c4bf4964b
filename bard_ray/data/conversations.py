"""Rows with a conversation and an optional gold answer, as SFT and RL trainers read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from bard_ray.data.reading import (
    Chat,
    boxed_or_short,
    completion_text,
    gold_answer,
    last_user_text,
    read_chat,
    require_kind,
    tagged_chain,
)
from bard_ray.data.source import Row, Source, TeacherRow, is_null
from bard_ray.records import AnswerKind, Question


class ConversationSource(Source):
    """Base class of conversation formats.

    Attributes:
        chats: columns that hold a conversation or a prompt, in order of preference.
        golds: columns that may hold the gold answer, in order of preference.
        kind: kind of the answers.
    """

    chats: ClassVar[tuple[str, ...]] = ("messages", "prompt")
    golds: ClassVar[tuple[str, ...]] = ()
    kind: AnswerKind = "math"
    lenient = True

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.question_columns = ("id", *cls.chats, "completion", *cls.golds)

    def __post_init__(self) -> None:
        require_kind(self.kind)

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question, with the completion as its chain if its thinking is closed."""
        chat = self._chat(row)
        chain = tagged_chain(chat.completion)
        chains = (chain,) if chain else ()
        given = row.optional(*self.golds)
        answer, meta = gold_answer(boxed_or_short(given) or given, chains)
        if not answer:
            return row.skip("no gold answer and no boxed one")
        item_id = row.optional("id", default=last_user_text(chat.messages))
        question = Question(item_id, chat.messages, answer, self.kind, row.source, meta)
        return (TeacherRow(question, chains if need_chains else ()),)

    def _chat(self, row: Row) -> Chat:
        present = [name for name in self.chats if not is_null(row.record.get(name))]
        chat = read_chat(row, present[0] if present else self.chats[0])
        apart = not chat.completion and not is_null(row.record.get("completion"))
        return replace(chat, completion=completion_text(row, "completion")) if apart else chat
