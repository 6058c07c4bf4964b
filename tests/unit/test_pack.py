"""Packing keeps every token, respects its bounds, and is deterministic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bard_ray.errors import ConfigError, InvariantError
from bard_ray.learn.pack import PackSpec, assign_rows, pack, plan_step, split_balanced, unpack
from bard_ray.records import TrainSequence

ROW = 32
LENGTHS = st.lists(st.integers(1, ROW), max_size=40)
SPECS = st.builds(PackSpec, row_tokens=st.just(ROW), rows=st.integers(1, 5))


def sequence(length: int, seed: int = 0) -> TrainSequence:
    rng = np.random.default_rng([seed, length])
    return TrainSequence(
        tokens_T=rng.integers(1, 99, length).astype(np.int32),
        mask_T=np.arange(length) >= 1,
        advantages_T=rng.normal(size=length).astype(np.float32),
        behavior_T=rng.normal(size=length).astype(np.float32),
        reference_T=rng.normal(size=length).astype(np.float32),
        budget_bin=(seed + length) % 4,
    )


@given(LENGTHS, SPECS, st.integers(0, 9))
def test_every_token_comes_back_once_and_in_order(
    lengths: list[int], spec: PackSpec, extra: int
) -> None:
    sequences = [sequence(n, seed) for seed, n in enumerate(lengths)]
    batches = pack(sequences, spec, plan_step(lengths, 1, spec).num_micro_batches + extra)
    for part in ("tokens", "mask", "advantages", "behavior", "reference"):
        found = unpack(batches, [getattr(batch, f"{part}_RT") for batch in batches], len(sequences))
        for values, given_one in zip(found, sequences, strict=True):
            np.testing.assert_array_equal(values, getattr(given_one, f"{part}_T"))
    for name in ("sequence", "bin"):
        found = unpack(batches, [getattr(b, f"{name}_RT") for b in batches], len(sequences))
        for i, given_one in enumerate(sequences):
            assert set(found[i]) == {i if name == "sequence" else given_one.budget_bin}
    assert sum(batch.num_tokens for batch in batches) == sum(lengths)
    assert sum(int(batch.mask_RT.sum()) for batch in batches) == sum(n - 1 for n in lengths)


@given(LENGTHS, SPECS)
def test_rows_and_micro_batches_respect_their_bounds(lengths: list[int], spec: PackSpec) -> None:
    batches = pack([sequence(n) for n in lengths], spec)
    for batch in batches:
        num_rows, width = batch.tokens_RT.shape
        assert num_rows <= spec.rows
        assert width <= max(2, spec.row_tokens)
    sizes = [batch.tokens_RT.shape[0] for batch in batches]
    assert not sizes or max(sizes) - min(sizes) <= 1  # rows are spread evenly


@given(LENGTHS)
def test_positions_restart_at_each_sequence_and_at_the_padding(lengths: list[int]) -> None:
    for batch in pack([sequence(n) for n in lengths], PackSpec(ROW, 3)):
        expected = np.full(batch.tokens_RT.shape, -1)
        for span in batch.spans:
            expected[span.row, span.start : span.start + span.length] = np.arange(span.length)
        for row in expected:
            padding = row == -1
            row[padding] = np.arange(padding.sum())
        np.testing.assert_array_equal(batch.positions_RT, expected)


@given(LENGTHS, st.integers(1, 6))
def test_rows_are_few_and_complete_and_within_capacity(lengths: list[int], multiple: int) -> None:
    rows = assign_rows(lengths, ROW, multiple)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(rows)
    assert all(sum(lengths[i] for i in row) <= ROW for row in rows)
    # A row is over half full on average once first-fit is done; then up to the next multiple.
    first_fit = 2 * sum(lengths) // ROW + 1
    assert len(rows) <= -(-first_fit // multiple) * multiple
    assert assign_rows(list(lengths), ROW, multiple) == rows


def area(lengths: list[int], rows: list[list[int]]) -> int:
    return len(rows) * max(sum(lengths[i] for i in row) for row in rows)


def test_rows_are_balanced() -> None:
    # First-fit would fill rows of 32 with 20 + 12 and leave 4 alone: 3 rows of 32.
    lengths = [20, 12, 12, 12, 4]
    rows = assign_rows(lengths, 32)
    assert [sum(lengths[i] for i in row) for row in rows] == [32, 28]
    # 13 sequences of 17 to 29 need 13 rows of 32; rows of 48 hold two: 7 rows, or 8 shorter ones.
    lengths = list(range(17, 30))
    assert len(assign_rows(lengths, 48)) == 7
    assert area(lengths, assign_rows(lengths, 60, 4)) <= area(lengths, assign_rows(lengths, 60))


def test_padding_of_thinking_lengths_is_small() -> None:
    """128 sequences of 500 to 8,000 tokens, log-uniform, over 8 ranks with equal micro-batches."""
    lengths = np.exp(np.random.default_rng(0).uniform(np.log(500), np.log(8000), 128)).astype(int)
    spec, shares = PackSpec(8192, 4), split_balanced(lengths.tolist(), 8)
    loads = [sum(lengths[i] for i in share) for share in shares]
    assert max(loads) / np.mean(loads) < 1.002
    tokens = 0
    for share in shares:
        batches = pack([sequence(int(lengths[i])) for i in share], spec)
        tokens += sum(batch.tokens_RT.size for batch in batches)
    assert tokens / lengths.sum() < 1.08


@given(LENGTHS, st.integers(1, 5))
def test_shares_are_balanced_complete_and_deterministic(lengths: list[int], ranks: int) -> None:
    shares = split_balanced(lengths, ranks)
    assert sorted(i for share in shares for i in share) == list(range(len(lengths)))
    loads = [sum(lengths[i] for i in share) for share in shares]
    assert max(loads) - min(loads) <= max(lengths, default=0)
    assert split_balanced(list(lengths), ranks) == shares


def test_split_golden() -> None:
    assert split_balanced([5, 9, 2, 7, 4], 2) == ((1, 4), (0, 2, 3))


def test_rows_golden() -> None:
    # Three rows of 9: 9 alone, 7 + 2, 5 + 4.
    assert assign_rows([5, 9, 2, 7, 4], 10) == [[1], [3, 2], [0, 4]]


@given(LENGTHS, SPECS, st.integers(1, 4))
def test_every_rank_can_run_the_planned_number_of_micro_batches(
    lengths: list[int], spec: PackSpec, ranks: int
) -> None:
    plan = plan_step(lengths, ranks, spec)
    assert plan.num_micro_batches >= 1
    for share in plan.shares:
        batches = pack([sequence(lengths[i]) for i in share], spec, plan.num_micro_batches)
        assert len(batches) == plan.num_micro_batches


def test_an_empty_micro_batch_has_tokens_to_run_and_none_to_train() -> None:
    (batch,) = pack([], PackSpec(8, 4), 1)
    assert batch.tokens_RT.size >= 1
    assert not batch.mask_RT.any()
    assert batch.num_tokens == 0


def test_flash_attention_gets_one_long_row() -> None:
    assert PackSpec.of(256, 4096, "flash_attention_2") == PackSpec(row_tokens=4096, rows=1)
    assert PackSpec.of(256, 4096, "sdpa") == PackSpec(row_tokens=256, rows=16)
    assert PackSpec.of(256, 100, "eager") == PackSpec(row_tokens=256, rows=1)


def test_a_sequence_longer_than_a_row_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"learner\.pack_len = 8: one sequence has 9 tokens"):
        pack([sequence(9)], PackSpec(8, 1))


def test_more_micro_batches_than_planned_are_refused() -> None:
    with pytest.raises(InvariantError, match="2 micro-batches where 1 were planned"):
        pack([sequence(8), sequence(8)], PackSpec(8, 1), 1)


def test_a_first_token_cannot_be_trained_on() -> None:
    with pytest.raises(InvariantError, match="first token"):
        pack([TrainSequence(np.ones(3, np.int32), np.ones(3, np.bool_))], PackSpec(8, 1))
