"""Budgets of training requests: reproducible by number, shared by the group, the right mixture."""

from collections import Counter

import pytest

from bard_ray.budget.sampler import sample_budgets, train_budgets
from bard_ray.budget.signal import NO_BUDGET, TokenBudget, label
from bard_ray.config.schema import BudgetConfig
from bard_ray.errors import ConfigError

CFG = BudgetConfig(train=[4, 8, 16, 30], none_share=0.2)


def test_draws_are_what_they_always_were():
    cfg = BudgetConfig(train=[4, 8, 16, 24, 30])
    drawn = [label(sample_budgets(cfg, 0, number, 2)[0]) for number in range(8)]
    assert drawn == ["16", "16", "24", "8", "16", "30", "8", "16"]


def test_a_group_shares_one_budget_and_a_number_always_gets_the_same():
    for number in (0, 7, 10**6):
        budgets = sample_budgets(CFG, 3, number, 8)
        assert len(budgets) == 8
        assert len(set(budgets)) == 1
        assert budgets == sample_budgets(CFG, 3, number, 8)


def test_uniform_over_the_budgets_with_the_share_of_unconstrained():
    counts = Counter(sample_budgets(CFG, 0, number, 1)[0] for number in range(2000))
    assert set(counts) == {NO_BUDGET, *map(TokenBudget, (4, 8, 16, 30))}
    # 400 each expected, four standard deviations.
    assert all(330 < count < 470 for count in counts.values())


def test_order_and_repeats_in_the_list_do_not_matter():
    shuffled = BudgetConfig(train=[30, 4, 16, 8, 8], none_share=0.2)
    assert [sample_budgets(shuffled, 0, n, 1) for n in range(20)] == [
        sample_budgets(CFG, 0, n, 1) for n in range(20)
    ]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 50)])
def test_the_ends_of_the_share(share, expected):
    cfg = BudgetConfig(train=[4], none_share=share)
    assert sum(sample_budgets(cfg, 0, n, 1)[0] == NO_BUDGET for n in range(50)) == expected


@pytest.mark.parametrize(
    ("cfg", "field"),
    [
        (BudgetConfig(train=[]), "budget.train"),
        (BudgetConfig(train=[0, 4]), "budget.train"),
        (BudgetConfig(train=[4, 7], held_out=[7]), "budget.train"),
        (BudgetConfig(train=[4], none_share=1.5), "budget.none_share"),
    ],
)
def test_a_wrong_setting_is_named(cfg, field):
    with pytest.raises(ConfigError) as caught:
        sample_budgets(cfg, 0, number=0, group_size=1)
    assert caught.value.field == field


def test_held_out_budgets_never_appear():
    cfg = BudgetConfig(train=[4, 8], held_out=[7])
    assert train_budgets(cfg) == [4, 8]
