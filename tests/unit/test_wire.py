"""Groups and training sequences survive the wire format unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from actors.cluster.wire import pack_groups, pack_sequences, unpack_groups, unpack_sequences
from bard_ray.budget.span import ThinkTags
from bard_ray.records import (
    Failure,
    FailureKind,
    Group,
    GroupRequest,
    Message,
    Question,
    TokenBudget,
    TrainSequence,
)
from bard_ray.rl.assemble import Completion, assemble, prompt_segment

CLOSE = 5


def request(number: int) -> GroupRequest:
    question = Question(f"q{number}", (Message("user", "1+1"),), "2")
    return GroupRequest(number, question, (TokenBudget(4),) * 2, seed=number)


def group(number: int) -> Group:
    prompt = prompt_segment(np.arange(100, 103, dtype=np.int32))
    rollouts = []
    for tokens in ([7, 8, CLOSE, 9, 1], [7, CLOSE, 1]):
        tokens_T = np.array(tokens, np.int32)
        size = len(tokens)
        done = Completion(
            tokens_T, np.linspace(-1, 0, size).astype(np.float32), tokens_T * 0 + 3, "stop"
        )
        rollouts.append(
            assemble(
                prompt, done, TokenBudget(4), ThinkTags(CLOSE), None, lambda ids: str(len(ids))
            )
        )
    return Group(request(number), tuple(rollouts))


def test_a_group_round_trips():
    before = group(3)
    [(ticket, after)] = unpack_groups(pack_groups([((0, 3), before)]), {(0, 3): before.request})
    assert ticket == (0, 3)
    assert after.request is before.request
    for a, b in zip(after.rollouts, before.rollouts, strict=True):
        assert (a.answer_text, a.thinking_tokens, a.closed, a.finish, a.budget) == (
            b.answer_text,
            b.thinking_tokens,
            b.closed,
            b.finish,
            b.budget,
        )
        assert [s.role for s in a.segments] == [s.role for s in b.segments]
        for x, y in zip(a.segments, b.segments, strict=True):
            for name in ("tokens_T", "logprobs_T", "mask_T", "versions_T"):
                got, want = getattr(x, name), getattr(y, name)
                assert got.dtype == want.dtype
                assert got.tolist() == want.tolist()
    assert after.rollouts[0].segments[0] is after.rollouts[1].segments[0], "the prompt is shared"


def test_failed_groups_are_kept_and_unrequested_ones_dropped():
    no_room = Failure(FailureKind.NO_ROOM, "its prompt leaves no room")
    failed = Group(request(8), failure=no_room)
    data = pack_groups([((0, 7), group(7)), ((0, 8), failed), ((1, 7), group(7))])
    requested = {(0, 8): failed.request, (1, 7): request(7)}
    found = dict(unpack_groups(data, requested))
    assert set(found) == {(0, 8), (1, 7)}
    assert found[0, 8].failure == no_room
    assert found[0, 8].rollouts == ()
    assert len(found[1, 7].rollouts) == 2


def sequence(length: int, *have: str) -> TrainSequence:
    """A sequence with the optional arrays in `have`."""
    values_T = np.linspace(0, length, length).astype(np.float32)
    optional = {f"{name}_T": values_T + i for i, name in enumerate(have)}
    tokens_T = np.arange(length, dtype=np.int32)
    return TrainSequence(tokens_T, tokens_T % 3 == 1, budget_bin=length % 4, **optional)


@pytest.mark.parametrize(
    "sequences",
    [
        [],
        [sequence(4), sequence(1)],
        [sequence(n, "advantages", "behavior", "reference") for n in (3, 9, 2)],
        [sequence(3, "behavior"), sequence(5, "advantages"), sequence(2)],
    ],
    ids=["none", "supervised", "policy", "mixed"],
)
def test_sequences_round_trip(sequences: list[TrainSequence]):
    after = unpack_sequences(pack_sequences(sequences))
    assert len(after) == len(sequences)
    for got, want in zip(after, sequences, strict=True):
        assert got.budget_bin == want.budget_bin
        for name in ("tokens_T", "mask_T", "advantages_T", "behavior_T", "reference_T"):
            a, b = getattr(got, name), getattr(want, name)
            assert (a is None) == (b is None), name
            if b is not None:
                assert a.dtype == b.dtype
                assert a.tolist() == b.tolist()
