"""Parsing of OpenAI-compatible chat completions, whatever the server sends."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from bard_ray.distill.teacher import Reply, ReplyFinish, TeacherRequest

_SHOWN_CHARS = 300
_NOT_ENDED = (None, "abort", "error")  # the server stopped, not the model
_COUNTED = ("prompt", "completion")
_REQUEST_CODES = ("context_length_exceeded", "content_filter", "content_policy_violation")
_REQUEST_WORDS = re.compile(
    r"context (length|window)|prompt is too long|reduce the length"
    r"|content (filter|policy|management)",
    re.I,
)


class BadBodyError(Exception):
    """A body that is no complete chat completion: truncated, not JSON, or without a field."""


@dataclass(frozen=True)
class Tags:
    """How a model marks its thinking in plain text.

    Attributes:
        opening, closing: the think tags.
        starts_open: the prompt ends with the opening tag, so that a text without any tag is
            thinking that never ended.
    """

    opening: str = "<think>"
    closing: str = "</think>"
    starts_open: bool = False

    def split(self, text: str) -> tuple[str, str]:
        """Thinking and answer of a text."""
        before, closed, after = text.partition(self.closing)
        _, opened, inside = before.partition(self.opening)
        if not (closed or opened or self.starts_open):
            return "", text
        return (inside if opened else before), after


def read_completion(body: str, request: TeacherRequest, tags: Tags) -> tuple[Reply, bool]:
    """The reply in a body, and whether the body has token counts.

    Thinking comes as `reasoning_content` or `reasoning` of the message, or between tags in its
    content. White space around thinking and answer is stripped, except where the text continues the
    request's own think prefix.

    Raises:
        BadBodyError: it is no complete chat completion.
    """
    try:
        record = json.loads(body)
        choice = record["choices"][0]
        message = choice["message"]
        content = _text(message.get("content"))
        thinking = _text(message.get("reasoning_content") or message.get("reasoning"))
        finish = choice.get("finish_reason")
        counts = [_count((record.get("usage") or {}).get(f"{n}_tokens")) for n in _COUNTED]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadBodyError(body[:_SHOWN_CHARS]) from error
    if finish in _NOT_ENDED:
        msg = f"finish_reason {finish}"
        raise BadBodyError(msg)
    think, answer = _parts(thinking, content, request, tags)
    ours = _finish(finish)
    failure = "content_filter" if ours == "failed" else ""
    known = [count or 0 for count in counts]
    return Reply(think, answer.strip(), ours, failure, *known), None not in counts


def explain(body: object, secret: str = "") -> tuple[str, str]:
    """Code and message of an error body, where it has them; the message is truncated.

    Args:
        body: decoded JSON, or the text if it is not JSON.
        secret: is masked; servers may quote the key that they received.
    """
    error: Any = body.get("error", body) if isinstance(body, dict) else body
    known = isinstance(error, dict)
    code = str(error.get("code") or error.get("type") or "") if known else ""
    message = str((known and error.get("message")) or error or "")
    return code, (message.replace(secret, "***") if secret else message)[:_SHOWN_CHARS]


def is_request_specific(status: int, code: str, message: str) -> bool:
    """Whether a refusal concerns the texts of one request (too long, filtered) only."""
    if status == 413:
        return True
    return status in (400, 422) and (code in _REQUEST_CODES or bool(_REQUEST_WORDS.search(message)))


def _parts(thinking: str, content: str, request: TeacherRequest, tags: Tags) -> tuple[str, str]:
    if request.think is not None and request.close_think:
        return "", thinking + content  # a reasoning parser may take the answer for thinking
    if request.think is not None:
        return (thinking, content) if thinking else replace(tags, starts_open=True).split(content)
    think, answer = (thinking, content) if thinking else tags.split(content)
    return think.strip(), answer


def _finish(finish: str) -> ReplyFinish:
    if finish == "content_filter":
        return "failed"
    return "length" if finish == "length" else "stop"


def _text(value: object) -> str:
    """Text of a field that may be null.

    A lone surrogate, which JSON can hold and no file can, becomes a question mark.
    """
    if value is not None and not isinstance(value, str):
        msg = f"{value!r} is no text"
        raise TypeError(msg)
    return (value or "").encode("utf-8", "replace").decode()


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
