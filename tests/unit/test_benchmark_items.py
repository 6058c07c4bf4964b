"""The verifier benchmark's items: their truth is what it says, and they repeat."""

from __future__ import annotations

import re
from collections import Counter

from bard_ray.records import Outcome
from bard_ray.verify.grade import grade
from benchmarks.verifier_items import SHARES, clean_items, with_hostile


def test_the_mix_has_its_shares_and_half_of_it_is_right():
    items = clean_items(4000, seed=1)
    families = Counter(known.family for known in items)
    for family, percent in SHARES.items():
        assert abs(families[family] / 40 - percent) < 2.5
    assert abs(sum(known.right for known in items) / 4000 - 0.5) < 0.03
    assert items == clean_items(4000, seed=1)
    assert items != clean_items(4000, seed=2)


def test_the_truth_of_an_item_is_the_verdict_of_the_grader():
    items = clean_items(250, seed=3)
    assert {known.family for known in items} == set(SHARES)
    said = [(grade(known.item).outcome is Outcome.CORRECT) for known in items]
    differing = [
        known for known, correct in zip(items, said, strict=True) if correct != known.right
    ]
    assert differing == []


def test_texts_are_as_long_as_completions_and_hold_one_box():
    texts = [known.item.text for known in clean_items(500, seed=4)]
    assert min(map(len, texts)) >= 100
    assert max(map(len, texts)) < 2200
    assert all(len(re.findall(r"\\boxed", text)) == 1 for text in texts)


def test_two_percent_are_hostile_and_the_others_stay_as_they_were():
    items = clean_items(1000, seed=5)
    mixed = with_hostile(items, seed=6)
    changed = [known for known, before in zip(mixed, items, strict=True) if known != before]
    assert len(changed) == 20
    assert {known.family for known in changed} == {"hostile"}
    assert not any(known.right for known in changed)
