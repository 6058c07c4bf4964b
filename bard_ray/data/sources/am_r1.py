"""AM-DeepSeek-R1-Distilled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bard_ray.data.reading import gold_answer, read_chat, tagged_chain, user_question, with_meta
from bard_ray.data.source import SOURCES, Hub, Row, Source, TeacherChain, TeacherRow, is_null

_ANSWER_TAGS = ("<answer>", "</answer>")


@SOURCES.register("am_r1")
@dataclass(frozen=True)
class AmR1(Source):
    """Chains of DeepSeek-R1 on questions of many sources.

    Gold answer, thinking and answer are in the `info` of the messages. If the gold answer is null,
    the teacher's boxed answer is used; without one, the row is skipped. Source: data set card.
    """

    question_columns = ("messages",)
    lenient = True
    hubs = (Hub("a-m-team/AM-DeepSeek-R1-Distilled-1.4M", "am_0.9M"),)
    trap = "The gold answer is nested in `messages[i].info` and is null for general questions."

    def read(self, row: Row, need_chains: bool) -> Iterable[TeacherRow]:
        """The question with its one chain."""
        chat = read_chat(row, "messages")
        infos = _infos(row)
        chain = _chain(infos, chat.completion)
        answer, meta = gold_answer(_first(infos, "reference_answer"), (chain,) if chain else ())
        if not answer:
            return row.skip("no gold answer and no boxed one")
        meta["source"] = _first(infos, "source") or "unknown"
        question = with_meta(user_question(row, chat.messages[-1].content, answer), meta)
        return (TeacherRow(question, (chain,) if chain and need_chains else ()),)


def _infos(row: Row) -> list[Mapping[str, object]]:
    infos = []
    for message in row.items("messages"):
        info = message.get("info") if isinstance(message, Mapping) else None
        if info is not None and not isinstance(info, Mapping):
            raise row.error("a message has an 'info' that is no mapping", "Fix or remove the row.")
        infos.append(info or {})
    return infos


def _first(infos: Iterable[Mapping[str, object]], name: str) -> object:
    return next((info[name] for info in infos if not is_null(info.get(name))), None)


def _chain(infos: list[Mapping[str, object]], completion: str) -> TeacherChain | None:
    think, after = _first(infos, "think_content"), _first(infos, "answer_content")
    if think and after:
        return TeacherChain(str(think), str(after).rstrip(), "DeepSeek-R1")
    chain = tagged_chain(completion, "DeepSeek-R1")
    if chain is None:
        return None
    opening, closing = _ANSWER_TAGS
    inner = chain.answer_text.partition(opening)[2].partition(closing)[0].strip()
    return TeacherChain(chain.think, inner or chain.answer_text, chain.origin)
