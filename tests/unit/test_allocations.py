"""Allocations: which budgets questions get, over many draws."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bard_ray.distill.allocation import ALLOCATIONS, fit_allocation
from bard_ray.distill.allocations.tied import TiedAllocation
from bard_ray.distill.identity import digest, identity
from bard_ray.distill.weighted_draws import MAX_LENGTHS, draw_budgets
from bard_ray.errors import ConfigError

BUDGETS = [500, 1000, 2000, 4000, 8000]
SETTINGS = {"listed": {"budgets": [1000, 4000]}}


def allocation(name, params=None, lengths=()):
    made = ALLOCATIONS.build(name, SETTINGS.get(name, {}) if params is None else params)
    return fit_allocation(made, lengths) if len(lengths) else made


def draws(chosen, count=2, natural=9000, number=2000, budgets=BUDGETS):
    """How often each budget came, and all that was chosen."""
    generator = np.random.default_rng(0)
    picks = [chosen.choose(natural, budgets, count, generator) for _ in range(number)]
    return Counter(budget for pick in picks for budget in pick), picks


@given(
    st.sampled_from(ALLOCATIONS.names()),
    st.lists(st.integers(1, 9000), unique=True, min_size=1, max_size=30).map(sorted),
    st.integers(1, 12),
    st.integers(1, 20_000),
    st.integers(0, 99),
)
@settings(max_examples=200, deadline=None)
def test_every_allocation_gives_different_training_budgets_ascending(
    name, budgets, count, natural, seed
):
    params = {"budgets": budgets[::2]} if name == "listed" else {}
    chosen = allocation(name, params, [10, 300, 300, 4000])
    picks = chosen.choose(natural, budgets, count, np.random.default_rng(seed))
    assert picks == sorted(set(picks))
    assert set(picks) <= set(budgets)
    assert 1 <= len(picks) <= count
    assert all(type(budget) is int for budget in picks)
    assert picks == chosen.choose(natural, budgets, count, np.random.default_rng(seed))


def test_uniform_covers_budgets_and_pairs_alike():
    counts, picks = draws(allocation("uniform"), count=2, number=5000)
    assert all(1850 < counts[budget] < 2150 for budget in BUDGETS)  # 2000, four deviations
    pairs = Counter(map(tuple, picks))
    assert len(pairs) == 10
    assert all(400 < n < 600 for n in pairs.values())
    assert draws(allocation("uniform"), count=9, number=1)[1] == [BUDGETS]


def test_listed_keeps_to_its_list():
    assert draws(allocation("listed"), count=4, number=3)[1] == [[1000, 4000]] * 3
    counts, _ = draws(allocation("listed"), count=1)
    assert set(counts) == {1000, 4000}
    assert 900 < counts[1000] < 1100
    with pytest.raises(ConfigError, match=r"distill\.allocation\.params\.budgets = \[300\]"):
        draws(allocation("listed", {"budgets": [300, 500]}), number=1)
    with pytest.raises(ConfigError, match="at least one budget"):
        allocation("listed", {"budgets": []})


def test_weighted_draws_follow_the_weights_one_after_the_other():
    generator = np.random.default_rng(0)
    picks = [tuple(draw_budgets([1, 2, 3], [1, 2, 7], 2, generator)) for _ in range(20_000)]
    shares = {pair: n / 20_000 for pair, n in Counter(picks).items()}
    # P({1,2}) = 1/10 * 2/9 + 2/10 * 1/8 and so on.
    assert shares[(1, 2)] == pytest.approx(1 / 10 * 2 / 9 + 2 / 10 * 1 / 8, abs=0.008)
    assert shares[(1, 3)] == pytest.approx(1 / 10 * 7 / 9 + 7 / 10 * 1 / 3, abs=0.012)
    assert shares[(2, 3)] == pytest.approx(2 / 10 * 7 / 8 + 7 / 10 * 2 / 3, abs=0.012)
    assert draw_budgets([1, 2, 3], [0, 2, 7], 3, generator) == [2, 3]


def test_log_uniform_is_uniform_in_the_logarithm():
    counts, _ = draws(allocation("log_uniform"), count=1, number=8000)
    # The grid doubles: all inner budgets alike, half of that at the ends.
    for budget, share in zip(BUDGETS, (1, 2, 2, 2, 1), strict=True):
        assert counts[budget] == pytest.approx(1000 * share, abs=150)
    even = list(range(10, 101, 10))
    counts, _ = draws(allocation("log_uniform"), count=1, number=20_000, budgets=even)
    assert counts[20] / counts[90] == pytest.approx(np.log(3) / np.log(100 / 80), rel=0.15)
    assert draws(allocation("log_uniform"), count=1, number=1, budgets=[7])[1] == [[7]]


def test_power_weights_by_a_power_of_the_budget():
    counts, _ = draws(allocation("power"), count=1, number=15_500)
    for budget, share in zip(BUDGETS, (16, 8, 4, 2, 1), strict=True):
        assert counts[budget] == pytest.approx(500 * share, rel=0.15)
    counts, _ = draws(allocation("power", {"exponent": 1}), count=1, number=15_500)
    assert counts[8000] == pytest.approx(8000, rel=0.05)


@pytest.mark.parametrize(
    ("params", "natural", "count", "expected"),
    [
        ({}, 4000, 4, [1000, 2000, 4000]),  # 1000, 2000, 3000 (tie: down), 4000
        ({}, 8000, 2, [4000, 8000]),
        ({}, 700, 4, [500]),
        ({"shares": [0.125, 0.25, 1]}, 8000, 4, [1000, 2000, 8000]),
        ({"shares": [0.125, 0.25, 1]}, 8000, 2, [1000, 8000]),
        ({"shares": [0.125, 0.25, 1]}, 8000, 1, [1000]),
    ],
)
def test_quantile_takes_shares_of_the_natural_length(params, natural, count, expected):
    assert draws(allocation("quantile", params), count, natural, 2)[1] == [expected] * 2


def test_spaced_covers_budgets_alike_and_the_range_in_every_question():
    budgets = list(range(27))
    counts, picks = draws(allocation("spaced"), count=4, number=10_000, budgets=budgets)
    assert all(counts[b] == pytest.approx(10_000 * 4 / 27, abs=180) for b in budgets)
    for pick in picks:
        assert min(np.diff(pick)) >= 6
        assert pick[0] < 27 / 4
    assert draws(allocation("spaced"), count=9, number=1)[1] == [BUDGETS]


def lengths_of_chains(number=4000):
    generator = np.random.default_rng(1)
    return np.exp(generator.normal(np.log(3000), 0.7, number)).astype(int).tolist()


def test_tied_gives_one_budget_by_rank_and_covers_all_alike():
    lengths = lengths_of_chains()
    chosen = allocation("tied", {}, lengths)
    generator = np.random.default_rng(0)
    picks = [chosen.choose(length, BUDGETS, 4, generator) for length in lengths]
    assert {len(pick) for pick in picks} == {1}
    counts = Counter(pick[0] for pick in picks)
    assert all(counts[budget] == pytest.approx(800, abs=8) for budget in BUDGETS)
    by_length = [picks[place][0] for place in np.argsort(lengths)]
    assert by_length == sorted(by_length)


def test_tied_distributes_chains_of_one_length_over_its_quantiles():
    # The tiny task: five lengths, each a fifth of all chains, and 27 budgets.
    budgets = list(range(4, 31))
    lengths = [30, 33, 36, 39, 42] * 2000
    chosen = allocation("tied", {}, lengths)
    generator = np.random.default_rng(0)
    got = {n: [chosen.choose(n, budgets, 1, generator)[0] for _ in range(2700)] for n in (30, 36)}
    assert set(got[30]) == {4, 5, 6, 7, 8, 9}
    assert set(got[36]) == {14, 15, 16, 17, 18, 19, 20}
    counts = Counter(got[30])
    assert all(counts[b] == pytest.approx(500, abs=100) for b in range(4, 9))  # 9: 0.4 of it
    assert chosen.choose(1, budgets, 1, generator) == [4]
    assert chosen.choose(99, budgets, 1, generator) == [30]


def test_the_jitter_of_tied_loosens_the_tie_and_keeps_the_coverage():
    lengths = list(range(1, 2001))

    def picks(jitter):
        chosen = allocation("tied", {"jitter": jitter}, lengths)
        generator = np.random.default_rng(0)
        return [chosen.choose(n, list(range(100)), 1, generator)[0] for n in lengths * 3]

    exact, loose, free = picks(0.0), picks(0.1), picks(1.0)
    wanted = np.array(lengths * 3) / 20
    assert np.abs(exact - wanted).max() <= 1.06
    assert 9 < np.abs(loose - wanted).max() < 11.2
    assert np.corrcoef(loose, wanted)[0, 1] > 0.95
    assert np.corrcoef(free, wanted)[0, 1] < 0.5
    for chosen in (exact, loose, free):
        tenths = Counter(b // 10 for b in chosen)
        assert all(500 < tenths[place] < 700 for place in range(10))


def test_allocations_that_depend_on_all_chains_must_be_fitted():
    for name in ("tied", "balanced"):
        with pytest.raises(ConfigError, match="depends on natural lengths") as caught:
            draws(allocation(name), number=1)
        assert caught.value.field == "distill.allocation.params.lengths"
        assert draws(allocation(name, {"lengths": [500, 9000]}), number=1)[1][0]
    assert fit_allocation(ALLOCATIONS.build("uniform", {}), [1, 2]) == ALLOCATIONS.build(
        "uniform", {}
    )


def test_fitting_keeps_the_ranks_of_many_chains_in_few_numbers():
    lengths = lengths_of_chains(50_000)
    made = allocation("tied", {"jitter": 0.25}, lengths)
    assert isinstance(made, TiedAllocation)
    assert made.jitter == 0.25
    assert len(made.lengths) == MAX_LENGTHS
    assert (made.lengths[0], made.lengths[-1]) == (min(lengths), max(lengths))
    assert made.lengths[500] == pytest.approx(np.median(lengths), rel=0.01)
    # What was seen decides what comes out, so it belongs to the identity.
    assert digest(identity(made)) == digest(identity(allocation("tied", {"jitter": 0.25}, lengths)))
    assert digest(identity(made)) != digest(
        identity(allocation("tied", {"jitter": 0.25}, lengths[1:]))
    )


def test_balanced_gives_no_chain_more_than_it_can_fill_and_evens_out_the_rest():
    lengths = lengths_of_chains()

    def rows(name):
        """Rows by budget that can be made: nothing longer than its natural chain allows."""
        chosen, generator = allocation(name, {}, lengths), np.random.default_rng(0)
        asked = [(n, b) for n in lengths for b in chosen.choose(n, BUDGETS, 2, generator)]
        return Counter(b for n, b in asked if n >= 0.75 * b), len(asked)

    balanced, asked = rows("balanced")
    uniform, _ = rows("uniform")
    assert balanced.total() > 0.97 * asked  # those below 375 tokens are asked for 500 in vain
    assert uniform[8000] < 0.2 * uniform[500]
    assert balanced[8000] > 2 * uniform[8000]
    assert balanced[8000] > 0.8 * sum(n >= 6000 for n in lengths)
    assert (
        draws(allocation("balanced", {}, lengths), count=3, natural=100, number=2)[1] == [[500]] * 2
    )
