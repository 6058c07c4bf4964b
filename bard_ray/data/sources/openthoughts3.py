"""OpenThoughts3."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bard_ray.data.reading import (
    gold_answer,
    last_user_text,
    read_chat,
    tagged_chain,
    user_question,
    with_meta,
)
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherRow


@SOURCES.register("openthoughts3")
@dataclass(frozen=True)
class OpenThoughts3(Source):
    """Chains of QwQ-32B, up to 16 rows per question, each a conversation with think tags.

    There is no gold answer: the boxed answer of a question's first chain is used, and rows with
    another answer are skipped. Source: data set card.

    Attributes:
        domains: rows of other domains are skipped.
    """

    domains: tuple[str, ...] = ("math",)

    question_columns = ("conversations", "domain", "difficulty", "source")
    lenient = True
    hubs = (Hub("open-thoughts/OpenThoughts3-1.2M"),)
    trap = "No gold answer at all; turns are called from and value, speakers human and gpt."

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question with its one chain."""
        domain = row.text("domain")
        if domain not in self.domains:
            return row.skip(f"domain {domain}")
        chat = read_chat(row, "conversations")
        chain = tagged_chain(chat.completion, "QwQ-32B")
        if chain is None:
            return row.skip("thought not closed")
        answer, meta = gold_answer(None, (chain,))
        if not answer:
            return row.skip("no boxed answer")
        meta |= {name: row.optional(name) for name in ("domain", "difficulty", "source")}
        question = with_meta(user_question(row, last_user_text(chat.messages), answer), meta)
        return (TeacherRow(question, (chain,) if need_chains else ()),)
