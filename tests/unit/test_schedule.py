"""Learning rates and batch order are pure functions of the step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bard_ray.learn.batching import num_sft_steps, sft_batches
from bard_ray.learn.schedule import warmup_cosine, warmup_linear


def test_warmup_cosine_golden() -> None:
    lrs = [warmup_cosine(step, 8, 4, 2.0, 0.1) for step in range(8)]
    halves = [(1 + math.cos(math.pi * p / 4)) / 2 for p in range(1, 5)]
    assert lrs == pytest.approx(
        [0.5, 1.0, 1.5, 2.0, *(2.0 * (0.1 + 0.9 * half) for half in halves)]
    )
    assert lrs[-1] == pytest.approx(0.2)


def test_warmup_linear_golden() -> None:
    lrs = [warmup_linear(step, 6, 2, 1.0, 0.2) for step in range(6)]
    assert lrs == pytest.approx([0.5, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_no_warmup_and_steps_beyond_the_end() -> None:
    assert warmup_linear(0, 4, 0, 1.0, 0.0) == pytest.approx(0.75)
    assert warmup_linear(9, 4, 0, 1.0, 0.25) == pytest.approx(0.25)
    assert warmup_cosine(9, 4, 0, 1.0, 0.25) == pytest.approx(0.25)


def test_a_warmup_longer_than_the_stage_only_warms_up() -> None:
    assert [warmup_cosine(step, 2, 4, 1.0, 0.1) for step in range(2)] == pytest.approx([0.25, 0.5])


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 3), st.data())
def test_a_resumed_order_continues_the_same_order(
    num_rows: int, batch_rows: int, seed: int, data: st.DataObject
) -> None:
    whole = list(sft_batches(num_rows, batch_rows, 2.5, seed))
    start = data.draw(st.integers(0, len(whole)))
    assert list(sft_batches(num_rows, batch_rows, 2.5, seed, start)) == whole[start:]


def test_every_epoch_sees_every_row_once_and_in_another_order() -> None:
    flat = [row for batch in sft_batches(10, 4, 2.0, seed=3) for row in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]


def test_batches_are_full_and_seeds_differ() -> None:
    batches = list(sft_batches(10, 4, 1.0, seed=0))
    assert [len(batch) for batch in batches] == [4, 4]
    assert num_sft_steps(10, 4, 1.0) == 2
    assert next(sft_batches(10, 4, 1.0, seed=1)) != batches[0]


def test_a_stage_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="needs rows"):
        next(sft_batches(0, 4, 1.0, seed=0))
