"""From sampled token ids to a `Rollout` of segments, without re-tokenizing text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bard_ray.budget.span import ThinkingSpan, ThinkTags, answer_part, thinking_span
from bard_ray.records import Budget, Finish, Floats, Ints, Rollout, Segment, SegmentRole


def prompt_segment(prompt_T: Ints) -> Segment:
    """The segment of a prompt: not sampled, never trained on."""
    size = prompt_T.size
    return Segment(
        "prompt",
        prompt_T,
        np.zeros(size, np.float32),
        np.zeros(size, np.bool_),
        np.full(size, -1, np.int32),
    )


@dataclass(frozen=True, slots=True)
class Completion:
    """The completion of one prompt.

    Attributes:
        tokens_T: token ids: the think prefix, if there is one, then the sampled tokens.
        logprobs_T: their log-probs under the sampling distribution; 0 in the think prefix.
        versions_T: the weight version that sampled each token; -1 in the think prefix.
        finish: why sampling ended.
    """

    tokens_T: Ints
    logprobs_T: Floats
    versions_T: Ints
    finish: Finish


def with_think_prefix(prefix_T: Ints, completion: Completion) -> Completion:
    """A completion with the think prefix that it continued put in front of it."""
    size = prefix_T.size
    return Completion(
        np.concatenate([prefix_T, completion.tokens_T]),
        np.concatenate([np.zeros(size, np.float32), completion.logprobs_T]),
        np.concatenate([np.full(size, -1, np.int32), completion.versions_T]),
        completion.finish,
    )


def assemble(
    prompt: Segment,
    completion: Completion,
    budget: Budget,
    tags: ThinkTags,
    forced_at: int | None,
    decode: Callable[[Ints], str],
) -> Rollout:
    """Split a completion into think prefix, thinking, forced closing tag and answer.

    Args:
        prompt: the prompt's segment.
        completion: what followed the prompt.
        budget: the budget in the prompt.
        tags: token ids of the think tags and of the end token.
        forced_at: thinking length, in tokens, at which the engine closes the span; None: never.
        decode: token ids to text, for the answer after the closing tag.

    Returns:
        A rollout whose forced tokens are excluded from the loss: they were not sampled, or the
        engine gave them probability 1.
    """
    tokens_T, span = completion.tokens_T, thinking_span(completion.tokens_T, tags.close_id)
    prefix_tokens = int(np.cumprod(completion.versions_T < 0).sum())
    segments = [prompt]
    for role, start, end in _parts(span, tokens_T.size, forced_at, prefix_tokens):
        if end > start:
            part = slice(start, end)
            mask_T = np.full(end - start, role != "forced", np.bool_)
            logprobs_T, versions_T = completion.logprobs_T[part], completion.versions_T[part]
            segments.append(Segment(role, tokens_T[part], logprobs_T, mask_T, versions_T))
    answer_T = tokens_T[span.answer_start :]
    answer = answer_part(answer_T, tags)
    return Rollout(
        budget,
        tuple(segments),
        completion.finish,
        span.thinking_tokens,
        span.closed,
        decode(answer_T),
        answer_tokens=answer.tokens,
        extra_tags=answer.extra_tags,
    )


def _parts(
    span: ThinkingSpan, size: int, forced_at: int | None, prefix_tokens: int
) -> list[tuple[SegmentRole, int, int]]:
    """Role, start and end of each part.

    The closing tag is part of the thinking, unless the engine forced it.
    """
    forced = span.closed and forced_at is not None and span.thinking_tokens >= forced_at
    think_end = max(prefix_tokens, span.thinking_tokens if forced else span.answer_start)
    answer_start = max(prefix_tokens, span.answer_start)
    return [
        ("forced", 0, prefix_tokens),
        ("think", prefix_tokens, think_end),
        ("forced", think_end, answer_start),
        ("answer", answer_start, size),
    ]
