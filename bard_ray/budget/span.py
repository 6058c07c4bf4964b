"""Measuring the thinking span on token ids.

Not in words or characters: they drift from what the model pays for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bard_ray.records import Ints


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
