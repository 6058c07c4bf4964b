"""Budgets as text: what the prompt says, and labels that read back."""

import math
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bard_ray.budget.codec import CODECS, DigitsCodec, SentenceCodec, make_codec
from bard_ray.config.schema import BudgetConfig
from bard_ray.records import (
    NO_BUDGET,
    EffortBudget,
    ModeBudget,
    TagBudget,
    TokenBudget,
    budget_label,
    parse_budget,
    token_limit,
)

BUDGETS = st.one_of(
    st.integers(0, 10**6).map(TokenBudget),
    st.sampled_from([0.1, 0.25, 0.5, 1.0]).map(EffortBudget),
    st.text(min_size=1).map(ModeBudget),
    st.text(min_size=1).map(TagBudget),
    st.just(NO_BUDGET),
)


@given(BUDGETS)
def test_labels_read_back(budget):
    assert parse_budget(budget_label(budget)) == budget


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (TokenBudget(27), "27"),
        (EffortBudget(0.5), "effort=0.5"),
        (ModeBudget("low"), "mode=low"),
        (TagBudget("[Easy]"), "tag=[Easy]"),
        (NO_BUDGET, "none"),
    ],
)
def test_labels_are_these(budget, text):
    assert budget_label(budget) == text


@pytest.mark.parametrize("text", ["", "many", "4.5", "effort=much", "color=red"])
def test_what_is_no_budget_does_not_parse(text):
    with pytest.raises(ValueError, match=r"invalid literal|could not convert"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (TokenBudget(8), "<budget>08</budget>"),
        (TokenBudget(99), "<budget>99</budget>"),
        (NO_BUDGET, ""),
    ],
)
def test_digits_are_always_two(budget, text):
    assert DigitsCodec().encode(budget) == text


@pytest.mark.parametrize("budget", [TokenBudget(100), TokenBudget(-1), ModeBudget("low")])
def test_digits_refuse_what_does_not_fit(budget):
    with pytest.raises(ValueError, match=r"0\.\.99"):
        DigitsCodec().encode(budget)


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (TokenBudget(2000), "\n\nThink for at most 2000 tokens."),
        (EffortBudget(0.5), "\n\nSpend 50% of your usual thinking effort."),
        (ModeBudget("low"), "\n\nThinking effort: low."),
        (TagBudget("[Easy]"), "\n\n[Easy]"),
        (NO_BUDGET, ""),
    ],
)
def test_sentences_are_these(budget, text):
    assert SentenceCodec().encode(budget) == text


def test_only_token_budgets_have_a_limit():
    assert token_limit(TokenBudget(8)) == 8
    assert token_limit(EffortBudget(0.5)) is None
    assert token_limit(NO_BUDGET) is None


def test_codec_by_name():
    assert isinstance(make_codec("digits"), DigitsCodec)
    assert isinstance(make_codec("sentence"), SentenceCodec)


def test_every_codec_that_the_schema_allows_exists_and_writes_its_largest_budget():
    allowed = get_args(get_type_hints(BudgetConfig)["codec"])
    assert set(allowed) == set(CODECS)
    assert make_codec("digits").encode(TokenBudget(99)) == "<budget>99</budget>"
    assert make_codec("digits").largest == 99
    assert make_codec("sentence").largest == math.inf
