"""Diagnostics of a teacher's chains: literal numbers, and what makes them larger or smaller."""

import math

import numpy as np
import pytest

from bard_ray.distill.diagnostics import (
    LengthFigures,
    first_tokens,
    length_figures,
    mean_nll,
    ngram_entropy,
    pca_shift,
    text_states,
)
from bard_ray.records import TrainSequence


def ids(*tokens):
    return np.array(tokens, np.int32)


def test_a_chain_whose_next_token_is_certain_has_no_entropy():
    assert ngram_entropy([ids(1, 2, 1, 2, 1, 2)]) == pytest.approx(0.0, abs=1e-12)


def test_the_entropy_of_literal_counts():
    # After 1 come 2, 2, 3 and after 2 and 3 comes 1: pairs 12 12 13 21 21 31, contexts 1 1 1 2 2 3.
    # Plug-in: 1/2 of the tokens follow a 1, with entropy H(2/3, 1/3); the others are certain.
    certain = 0.5 * -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    correction = (4 - 3) / (2 * 6)
    assert ngram_entropy([ids(1, 2, 1, 2, 1, 3, 1)]) == pytest.approx(certain + correction)


def test_a_fair_coin_has_the_entropy_of_one_bit_whatever_the_order():
    coin = np.random.default_rng(0).integers(2, size=20_000).astype(np.int32)
    for order in (1, 2, 3):
        assert ngram_entropy([coin], order) == pytest.approx(math.log(2), abs=2e-3)


def test_no_ngram_reaches_over_the_end_of_a_chain():
    # Joined, the chains would hold the pair 2 1 and 2 would be followed by something.
    assert ngram_entropy([ids(1, 2), ids(1, 2), ids(1, 3)]) == pytest.approx(
        -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) + (2 - 1) / 6
    )
    assert ngram_entropy([ids(1), ids(2)]) is None


def test_the_correction_makes_up_for_most_of_what_few_tokens_lack():
    generator = np.random.default_rng(1)
    dice = [generator.integers(6, size=300).astype(np.int32) for _ in range(200)]
    estimates = [ngram_entropy([die]) or 0.0 for die in dice]
    plug_in = math.log(6) - 25 / (2 * 299)  # its bias to first order
    assert abs(np.mean(estimates) - math.log(6)) < 0.2 * (math.log(6) - plug_in)


def test_large_token_ids_do_not_overflow():
    far = 2**31 - 1
    assert ngram_entropy([ids(far, 0, far, 0, far, 0)], 3) == pytest.approx(0.0, abs=1e-12)


def test_an_ngram_of_no_tokens_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        ngram_entropy([ids(1, 2)], 0)


def test_the_first_tokens_cut_the_last_chain():
    cut = first_tokens([ids(1, 2, 3), ids(4, 5, 6), ids(7)], 5)
    assert [t.tolist() for t in cut] == [[1, 2, 3], [4, 5]]


def test_lengths_in_numbers():
    assert length_figures([10, 30]) == LengthFigures(2, 20.0, 10.0, 12.0, 20.0, 28.0)
    with pytest.raises(ValueError, match="no chain"):
        length_figures([])


def test_a_shift_is_measured_in_the_plane_and_in_units_of_the_spread():
    # Texts lie on a cross in the first two axes, 2 and 1 from the center.
    before = np.array([[2, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]], np.float32)
    spread = math.sqrt((4 + 4 + 1 + 1) / 4)
    assert pca_shift(before, before) == pytest.approx(0.0)
    assert pca_shift(before, before + np.array([3, 4, 0])) == pytest.approx(5 / spread)
    assert pca_shift(before, before + np.array([0, 0, 7])) == pytest.approx(0.0)  # out of the plane


def test_a_student_that_diverged_has_no_shift():
    before = np.eye(3, dtype=np.float32)
    assert pca_shift(before, before * np.nan) is None


def test_states_that_do_not_differ_have_no_plane():
    same = np.ones((4, 3), np.float32)
    assert pca_shift(same, same + 1) is None
    with pytest.raises(ValueError, match="cannot be compared"):
        pca_shift(same, same[:3])
    with pytest.raises(ValueError, match="cannot be compared"):
        pca_shift(same[:1], same[:1])


class CountingReference:
    """A model that gives every token the probability 1/4; a text's state is its length."""

    def __init__(self):
        self.sizes = []

    async def load(self, path):
        raise AssertionError

    async def logprobs(self, sequences, temperature):
        assert temperature == 1.0
        self.sizes.append(len(sequences))
        found = [np.full(s.size, -math.log(4), np.float32) for s in sequences]
        for logprobs_T in found:
            logprobs_T[0] = 0.0
        return found

    async def states(self, sequences):
        self.sizes.append(len(sequences))
        return [np.array([s.size, 1.0], np.float32) for s in sequences]


def rows(count):
    return [
        TrainSequence(np.arange(5 + i, dtype=np.int32), np.arange(5 + i) >= 2) for i in range(count)
    ]


async def test_the_likelihood_is_that_of_the_completions_asked_in_small_calls():
    reference = CountingReference()
    assert await mean_nll(reference, rows(130)) == pytest.approx(math.log(4))
    assert reference.sizes == [64, 64, 2]
    assert await mean_nll(reference, []) is None


async def test_states_come_in_the_order_of_the_texts():
    states = await text_states(CountingReference(), rows(70))
    assert states[:, 0].tolist() == [5 + i for i in range(70)]
