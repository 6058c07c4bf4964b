"""From sampled token ids to a `Rollout` of segments. Nothing is ever re-tokenised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bard_ray.budget.signal import Budget
from bard_ray.budget.span import ThinkingSpan, thinking_span
from bard_ray.records import Finish, Floats, Ints, Rollout, Segment, SegmentRole


def prompt_segment(prompt_T: Ints) -> Segment:
    """The prompt: never trained on, sampled by nobody."""
    size = prompt_T.size
    return Segment(
        "prompt", prompt_T, np.zeros(size, np.float32), np.zeros(size, np.bool_), np.full(size, -1, np.int32)
    )


def assemble(
    prompt: Segment, tokens_T: Ints, logprobs_T: Floats, versions_T: Ints,
    *, close_id: int, finish: Finish, budget: Budget, forced_at: int | None, decode: Callable[[Ints], str],
) -> Rollout:
    """Cut a completion into thinking, forced tag and answer.

    Args:
        prompt: the prompt's segment.
        tokens_T: sampled token ids, [T].
        logprobs_T: their behaviour log-probs, [T].
        versions_T: the weight version that sampled each, [T].
        close_id: token id of the closing think tag.
        finish: why sampling ended.
        budget: what the prompt asked for.
        forced_at: thinking length at which the engine closes the span itself, in tokens; None: never.
        decode: token ids to text, for the answer after the closing tag.

    Returns:
        A rollout whose forced tokens are masked out of the loss: the engine gave them probability 1.
    """
    span = thinking_span(tokens_T, close_id)
    segments = [prompt]
    for role, start, end in _cuts(span, tokens_T.size, forced_at):
        if end > start:
            mask_T = np.full(end - start, role != "forced", np.bool_)
            part = slice(start, end)
            segments.append(Segment(role, tokens_T[part], logprobs_T[part], mask_T, versions_T[part]))
    answer_text = decode(tokens_T[span.answer_start :])
    return Rollout(budget, tuple(segments), finish, span.thinking_tokens, span.closed, answer_text)


def _cuts(span: ThinkingSpan, size: int, forced_at: int | None) -> list[tuple[SegmentRole, int, int]]:
    """Role, start and end of each part; the closing tag belongs to the thinking unless the engine put it there."""
    forced = span.closed and forced_at is not None and span.thinking_tokens >= forced_at
    think_end = span.thinking_tokens if forced else span.answer_start
    return [("think", 0, think_end), ("forced", think_end, span.answer_start), ("answer", span.answer_start, size)]
