"""OpenThoughts-114k."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bard_ray.data.reading import (
    boxed_or_short,
    gold_answer,
    last_user_text,
    read_chat,
    user_question,
    with_meta,
)
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherChain, TeacherRow

_THOUGHT = ("<|begin_of_thought|>", "<|end_of_thought|>")
_SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")


@SOURCES.register("openthoughts")
@dataclass(frozen=True)
class OpenThoughts(Source):
    """Chains of DeepSeek-R1, in either of two configs.

    `default` has conversations with custom markers and no gold answer; `metadata` has thinking,
    answer and gold solution in columns. The system prompt, which requests the markers, is dropped.
    Without a gold answer, the teacher's boxed answer is used. Source: data set card.

    Attributes:
        domains: rows that name another domain are skipped.
    """

    domains: tuple[str, ...] = ("math",)

    question_columns = (
        "conversations",
        "problem",
        "ground_truth_solution",
        "deepseek_reasoning",
        "deepseek_solution",
        "domain",
    )
    lenient = True
    hubs = (
        Hub("open-thoughts/OpenThoughts-114k"),
        Hub("open-thoughts/OpenThoughts-114k", "metadata"),
    )
    trap = "Own markers for thought and solution; no gold answer in the default config; code rows."

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question with its one chain."""
        domain = row.optional("domain", default="unknown")
        if domain not in (*self.domains, "unknown"):
            return row.skip(f"domain {domain}")
        text, chain = _columns(row) if "problem" in row.record else _conversation(row)
        given = boxed_or_short(row.optional("ground_truth_solution"))
        answer, meta = gold_answer(given, (chain,) if chain else ())
        if not answer:
            return row.skip("no gold answer and no boxed one")
        question = with_meta(user_question(row, text, answer), meta | {"domain": domain})
        return (TeacherRow(question, (chain,) if chain and need_chains else ()),)


def _columns(row: Row) -> tuple[str, TeacherChain | None]:
    think, after = row.optional("deepseek_reasoning"), row.optional("deepseek_solution")
    chain = TeacherChain(think, after.rstrip(), "DeepSeek-R1") if think and after else None
    return row.text("problem"), chain


def _conversation(row: Row) -> tuple[str, TeacherChain | None]:
    chat = read_chat(row, "conversations")
    think, after = _between(chat.completion, *_THOUGHT), _between(chat.completion, *_SOLUTION)
    chain = TeacherChain(think, after, "DeepSeek-R1") if think and after else None
    return last_user_text(chat.messages), chain


def _between(text: str, opening: str, closing: str) -> str:
    """Text between two markers; empty if one is missing."""
    inner, found, _ = text.partition(opening)[2].partition(closing)
    return inner.strip("\n") if found else ""
