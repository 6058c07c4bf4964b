"""Learning rates and batch order are pure functions of the step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bard_ray.learn.batching import num_sft_steps, sft_batches
from bard_ray.learn.schedule import warmup_cosine, warmup_linear


def test_warmup_cosine_golden() -> None:
    lrs = [warmup_cosine(step, 8, 4, 2.0, 0.1) for step in range(8)]
    halves = [(1 + math.cos(math.pi * p / 4)) / 2 for p in range(1, 5)]
    assert lrs == pytest.approx([0.5, 1.0, 1.5, 2.0, *(2.0 * (0.1 + 0.9 * half) for half in halves)])
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


LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=30)


@given(LENGTHS, st.integers(1, 12), st.integers(0, 3), st.integers(0, 4), st.data())
def test_a_resumed_order_is_the_same_order(
    lengths: list[int], batch_rows: int, seed: int, bucket: int, data: st.DataObject
) -> None:
    whole = list(sft_batches(lengths, batch_rows, 2.5, seed, bucket))
    start = data.draw(st.integers(0, len(whole)))
    assert list(sft_batches(lengths, batch_rows, 2.5, seed, bucket, start)) == whole[start:]


@pytest.mark.parametrize("bucket", [0, 2])
def test_every_epoch_sees_every_row_once_and_in_another_order(bucket: int) -> None:
    flat = [row for batch in sft_batches(list(range(1, 11)), 4, 2.0, 3, bucket) for row in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]


@pytest.mark.parametrize("bucket", [0, 2])
def test_batches_are_full_and_seeds_differ(bucket: int) -> None:
    lengths = list(range(1, 11))
    batches = list(sft_batches(lengths, 4, 1.0, 0, bucket))
    assert [len(batch) for batch in batches] == [4, 4]
    assert num_sft_steps(10, 4, 1.0) == 2
    assert next(sft_batches(lengths, 4, 1.0, 1, bucket)) != batches[0]


def test_buckets_hold_rows_of_about_one_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 320).tolist()

    def spread(bucket: int) -> float:
        return float(
            np.mean([np.ptp([lengths[i] for i in batch]) for batch in sft_batches(lengths, 8, 1.0, 0, bucket)])
        )

    assert spread(0) > 60
    assert spread(10) < 15


def test_bucketed_batches_come_in_mixed_order() -> None:
    lengths = list(range(1, 321))
    means = [np.mean(batch) for batch in sft_batches(lengths, 8, 1.0, 0, bucket=40)]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="needs rows"):
        next(sft_batches([], 4, 1.0, seed=0))
