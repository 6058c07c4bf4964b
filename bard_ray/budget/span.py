"""Measuring the thinking span on token ids.

Not in words or characters: they drift from what the model pays for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bard_ray.records import Ints


@dataclass(frozen=True, slots=True)
class ThinkTags:
    """Ids of the tokens that give a completion its form.

    Attributes:
        close_id: the closing think tag.
        open_id: the opening one; None where the tokenizer has no single token for it, and then it
            is never found.
        end_id: the end of a completion; None: completions come without it.
    """

    close_id: int
    open_id: int | None = None
    end_id: int | None = None


class ThinkingSpan(NamedTuple):
    """Where thinking ended.

    Attributes:
        thinking_tokens: tokens before the closing tag, the tag not counted; all of them if it never
            came.
        closed: the closing tag was reached.
        answer_start: index of the first token after the tag; the length of the completion if it
            never came.
    """

    thinking_tokens: int
    closed: bool
    answer_start: int


def thinking_span(completion_T: Ints, close_id: int) -> ThinkingSpan:
    """Measure one completion (what followed the open think tag).

    The first closing tag counts: a later one is part of the answer, so a model gains nothing by
    writing more.

    Args:
        completion_T: token ids after the prompt.
        close_id: id of the closing think tag.
    """
    hits = np.flatnonzero(completion_T == close_id)
    if hits.size == 0:
        return ThinkingSpan(len(completion_T), closed=False, answer_start=len(completion_T))
    first = int(hits[0])
    return ThinkingSpan(first, closed=True, answer_start=first + 1)


class AnswerPart(NamedTuple):
    """What followed the closing tag.

    Attributes:
        tokens: number of tokens, an end token at the very end not counted.
        extra_tags: think tags, opening or closing, among them.
    """

    tokens: int
    extra_tags: int


def answer_part(answer_T: Ints, tags: ThinkTags) -> AnswerPart:
    """Measure the token ids after the closing tag; both counts are 0 if it never came."""
    ids = answer_T.tolist()  # a list: answers are short, and every rollout passes here
    ended = bool(ids) and ids[-1] == tags.end_id
    extra = ids.count(tags.close_id) + (0 if tags.open_id is None else ids.count(tags.open_id))
    return AnswerPart(len(ids) - ended, extra)
