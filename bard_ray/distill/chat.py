"""Bodies of OpenAI-compatible chat completions, taken apart without trust in what they hold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from bard_ray.distill.teacher import Ended, Reply, TeacherRequest

_SHOWN_CHARS = 300
_NOT_ENDED = (None, "abort", "error")  # the server stopped, not the model
_ASK_CODES = ("context_length_exceeded", "content_filter", "content_policy_violation")
_ASK_WORDS = re.compile(
    r"context (length|window)|prompt is too long|reduce the length"
    r"|content (filter|policy|management)",
    re.I,
)


class BadBodyError(Exception):
    """A body that is no complete answer: cut off, not JSON, or without what it must have."""


@dataclass(frozen=True)
class Tags:
    """How a model marks its thought in plain text.

    Attributes:
        opening, closing: the think tags.
        starts_open: the prompt ends with the opening tag, so that a text without any tag is a
            thought that never ended.
    """

    opening: str = "<think>"
    closing: str = "</think>"
    starts_open: bool = False

    def split(self, text: str) -> tuple[str, str]:
        """Thought and answer of a text."""
        before, closed, after = text.partition(self.closing)
        _, opened, inside = before.partition(self.opening)
        if not (closed or opened or self.starts_open):
            return "", text
        return (inside if opened else before), after


def read_completion(body: str, ask: TeacherRequest, tags: Tags) -> tuple[Reply, bool]:
    """The reply in a body, and whether the body says how many tokens it took.

    A thought comes as `reasoning_content` or `reasoning` of the message, or between tags in its
    content. White space around thought and answer is left out; not before a text that goes on with
    the ask's own thought.

    Raises:
        BadBodyError: it is no complete chat completion.
    """
    try:
        record = json.loads(body)
        choice = record["choices"][0]
        message = choice["message"]
        content = _text(message.get("content"))
        thought = _text(message.get("reasoning_content") or message.get("reasoning"))
        finish = choice.get("finish_reason")
        counts = [_count((record.get("usage") or {}).get(f"{n}_tokens")) for n in _COUNTED]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadBodyError(body[:_SHOWN_CHARS]) from error
    if finish in _NOT_ENDED:
        msg = f"finish_reason {finish}"
        raise BadBodyError(msg)
    think, answer = _parts(thought, content, ask, tags)
    ended = _ended(finish)
    failure = "content_filter" if ended == "failed" else ""
    known = [count or 0 for count in counts]
    return Reply(think, answer.strip(), ended, failure, *known), None not in counts


def explain(body: object, secret: str = "") -> tuple[str, str]:
    """Code and message of an error body, as far as there are any; the message is cut.

    Args:
        body: decoded, or the text that could not be.
        secret: not shown; servers like to quote the key they were given.
    """
    error: Any = body.get("error", body) if isinstance(body, dict) else body
    known = isinstance(error, dict)
    code = str(error.get("code") or error.get("type") or "") if known else ""
    message = str((known and error.get("message")) or error or "")
    return code, (message.replace(secret, "***") if secret else message)[:_SHOWN_CHARS]


def is_of_this_ask(status: int, code: str, message: str) -> bool:
    """Whether a refusal is about the texts of one ask (too long, filtered), not about all asks."""
    if status == 413:
        return True
    return status in (400, 422) and (code in _ASK_CODES or bool(_ASK_WORDS.search(message)))


_COUNTED = ("prompt", "completion")


def _parts(thought: str, content: str, ask: TeacherRequest, tags: Tags) -> tuple[str, str]:
    if ask.think is not None and ask.close_think:
        return "", thought + content  # a server that looks for thoughts may see one in the answer
    if ask.think is not None:
        return (thought, content) if thought else replace(tags, starts_open=True).split(content)
    think, answer = (thought, content) if thought else tags.split(content)
    return think.strip(), answer


def _ended(finish: str) -> Ended:
    if finish == "content_filter":
        return "failed"
    return "length" if finish == "length" else "stop"


def _text(value: object) -> str:
    """Text of a field that may be null.

    Half of a surrogate pair, which JSON can hold and no file can, becomes a question mark.
    """
    if value is not None and not isinstance(value, str):
        msg = f"{value!r} is no text"
        raise TypeError(msg)
    return (value or "").encode("utf-8", "replace").decode()


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
