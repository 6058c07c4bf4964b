r"""Helpers shared by all formats: chats, think tags, gold answers.

A chain is graded against a *gold answer*. Data sets have it in a column, at the end of a worked
solution, or not at all; in the last case the teacher's own boxed answer is used, and the question
has `meta["gold"] == "teacher"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bard_ray.data.chain import answer_text
from bard_ray.data.source import Row, TeacherChain, is_null, plain_text
from bard_ray.records import AnswerKind, Message, Question
from bard_ray.verify.extract import extract_boxed
from bard_ray.verify.kinds import known_kinds

# The tags of the data sets, independent of the student's tags.
OPEN_TAG, CLOSE_TAG = "<think>", "</think>"
# A longer text without a box is a worked solution, not an answer (ours; the longest gold answer of
# MATH-500 has 159 characters).
MAX_GOLD_CHARS = 200

_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant"}
_ROLES["gpt"] = "assistant"
_THOUGHTS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation up to the turn that answers it.

    Attributes:
        messages: all turns before the answer; the last one is the user's.
        completion: text of the answering turn, including think tags; empty if there is none.
    """

    messages: tuple[Message, ...]
    completion: str = ""


def require_kind(kind: str) -> AnswerKind:
    """Check that a kind of answers can be graded.

    Raises:
        ValueError: the kind is unknown; the message is the fix.
    """
    if kind not in known_kinds():
        msg = f"Use one of {', '.join(known_kinds())}, or name your own in verifier.kinds"
        raise ValueError(msg)
    return kind


def user_question(
    row: Row, text: str, answer: str, kind: AnswerKind = "math", item_id: str = ""
) -> Question:
    """A question with one user message; without an id, its text is its id."""
    return Question(item_id or text, (Message("user", text),), answer, kind, row.source)


def with_meta(question: Question, meta: Mapping[str, object]) -> Question:
    """The question with these meta entries, except for empty ones."""
    return replace(question, meta={k: v for k, v in meta.items() if v not in (None, "")})


def tagged_chain(text: str, origin: str = "", close: str = CLOSE_TAG) -> TeacherChain | None:
    """Chain of a completion that closes its think tag and answers; None for any other.

    Other completions are unusable for training: they were truncated, or have no thinking.
    """
    think, tag, answer = text.partition(close)
    if not tag or not answer.strip() or not think.strip():
        return None
    think = think.partition(OPEN_TAG)[2] if OPEN_TAG in think else think
    return TeacherChain(think, answer.rstrip(), origin)


def worked_chain(text: str, gold: str, origin: str = "") -> TeacherChain:
    r"""Chain of a solution, split at its think tag, else all thinking with `\boxed{gold}`."""
    return tagged_chain(text, origin) or TeacherChain(text, answer_text(gold), origin)


def boxed_or_short(text: str) -> str:
    r"""Gold answer of a solution column: its box, or all of a short line; else empty.

    Dollar signs around a whole line are ignored.
    """
    found = extract_boxed(text)
    if found.answer:
        return found.answer
    line = text.strip()
    short = found.rule == "no_answer" and len(line) <= MAX_GOLD_CHARS and "\n" not in line
    return line if short else ""


def gold_answer(given: object, chains: tuple[TeacherChain, ...]) -> tuple[str, dict[str, object]]:
    """Gold answer, and the meta entry that records its origin.

    Args:
        given: value of the data set; null and blank count as missing.
        chains: chains of the teacher, whose first boxed answer is the fallback.

    Returns:
        The answer, empty if there is none, and the entry.
    """
    text = plain_text(given)
    if text is not None and text.strip():
        return text.strip(), {}
    boxes = (extract_boxed(chain.answer_text).answer for chain in chains)
    return next(filter(None, boxes), ""), {"gold": "teacher"}


def read_chat(row: Row, column: str) -> Chat:
    """Read a column with one prompt as text, or with turns of role and content (or from and value).

    Raises:
        DataError: it is neither, a role is unknown, or no user message precedes the answer.
    """
    value = row.record.get(column)
    if isinstance(value, str):
        return Chat((Message("user", row.text(column)),))
    turns = [_turn(row, column, item) for item in row.items(column)]
    completion = turns.pop().content if turns and turns[-1].role == "assistant" else ""
    if not turns or turns[-1].role != "user":
        raise row.error(
            f"column {column!r} has no user message before the answer", "Fix or remove the row."
        )
    return Chat(tuple(turns), completion)


def completion_text(row: Row, column: str) -> str:
    """Read a column with a completion as text, or as turns that end with the assistant's.

    Raises:
        DataError: it is neither.
    """
    if isinstance(row.record.get(column), str):
        return row.text(column)
    turns = [_turn(row, column, item) for item in row.items(column)]
    if not turns or turns[-1].role != "assistant":
        raise row.error(f"column {column!r} has no assistant message", "Fix or remove the row.")
    return turns[-1].content


def last_user_text(messages: tuple[Message, ...]) -> str:
    """Text of the last user message, which names a conversation that has no id."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")


def _turn(row: Row, column: str, item: object) -> Message:
    if not isinstance(item, Mapping):
        raise row.error(f"column {column!r} must hold messages", "Fix or remove the row.")
    role = str(item.get("role") or item.get("from"))
    content = item.get("content", item.get("value"))
    if role not in _ROLES or not isinstance(content, str):
        fix = "Write a role (system, user, assistant) and a content of text."
        raise row.error(f"column {column!r} holds a broken message ({str(item)[:80]})", fix)
    thoughts = [item[name] for name in _THOUGHTS if not is_null(item.get(name))]
    if thoughts and role == "assistant":
        content = f"{thoughts[0]}{CLOSE_TAG}{content}"
    return Message(_ROLES[role], content)  # type: ignore[arg-type]
