"""Budgets of training requests: reproducible by number, shared by the group, the right mixture."""

import re
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from bard_ray.budget.draw import SAMPLERS, SCHEDULES
from bard_ray.budget.sampler import BudgetSource, train_budgets
from bard_ray.config.load import load
from bard_ray.config.schema import BudgetConfig, BudgetSamplerConfig, BudgetScheduleConfig, RLConfig
from bard_ray.errors import ConfigError, DataError
from bard_ray.preflight.check import check, problems
from bard_ray.records import NO_BUDGET, Question, TokenBudget, budget_label
from recipes import bard_8b, bard_tiny

QUESTION = Question("q", (), "7", meta={"difficulty": 0.5, "ops": ["+1"] * 12})


def sample_budgets(cfg, seed, number, group_size, accuracy=None, question=QUESTION):
    rl = RLConfig(group_size=group_size, prompts_per_step=10)
    return BudgetSource.of(cfg, rl, seed).draw(number, question, accuracy)


def tokens(params, number=0, group_size=8, train=(4, 8, 16, 32), accuracy=None, schedule=None):
    """Budgets of one group, as numbers."""
    cfg = BudgetConfig(train=list(train), none_share=0.0, sampler=BudgetSamplerConfig(**params))
    if schedule:
        cfg.schedule = BudgetScheduleConfig(**schedule)
    drawn = sample_budgets(cfg, 0, number, group_size, accuracy)
    return [b.tokens for b in drawn if isinstance(b, TokenBudget)]


def shares(params, **kwargs):
    """Share of each budget over 2,000 groups."""
    counts = Counter(
        b for n in range(2000) for b in tokens(params, n, **{"group_size": 2} | kwargs)
    )
    return {b: counts[b] / counts.total() for b in sorted(counts)}


CFG = BudgetConfig(train=[4, 8, 16, 30], none_share=0.2)


def test_draws_are_what_they_always_were():
    cfg = BudgetConfig(train=[4, 8, 16, 24, 30])
    drawn = [budget_label(sample_budgets(cfg, 0, number, 2)[0]) for number in range(8)]
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
        (BudgetConfig(train=[4, 7], held_out=[7]), "budget.held_out"),
    ],
)
def test_a_wrong_setting_is_named(cfg, field):
    with pytest.raises(ConfigError) as caught:
        sample_budgets(cfg, 0, number=0, group_size=1)
    assert caught.value.field == field


def test_held_out_budgets_never_appear():
    cfg = BudgetConfig(train=[4, 8], held_out=[7])
    assert train_budgets(cfg) == [4, 8]


def test_log_uniform_weighs_a_budget_by_the_room_around_it():
    found = shares({"name": "log_uniform"}, train=(4, 8, 16, 64))
    # Logs to base 2: 1, 2, 3, 2 of 8.
    assert found == pytest.approx({4: 1 / 8, 8: 2 / 8, 16: 3 / 8, 64: 2 / 8}, abs=0.04)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"weights": [1, 0, 0, 3]}, {4: 0.25, 32: 0.75}),
        ({"prior": "linear"}, {4: 4 / 60, 8: 8 / 60, 16: 16 / 60, 32: 32 / 60}),
        ({"prior": "last"}, {32: 1.0}),
        ({"prior": "uniform"}, {4: 0.25, 8: 0.25, 16: 0.25, 32: 0.25}),
    ],
)
def test_weighted_draws_follow_the_weights(params, expected):
    found = shares({"name": "weighted", "params": params})
    assert found == pytest.approx(expected, abs=0.04)


def test_subgroups_split_a_group_in_equal_parts():
    fixed = {"name": "subgroups", "params": {"fixed": [4, 32]}}
    assert tokens(fixed, group_size=8) == [4] * 4 + [32] * 4
    drawn = tokens({"name": "subgroups", "params": {"count": 3}}, number=5, group_size=8)
    assert drawn == sorted(drawn)
    assert sorted(Counter(drawn).values()) == [2, 3, 3]


def test_per_rollout_budgets_differ_inside_a_group():
    found = shares({"name": "per_rollout"}, group_size=8)
    assert found == pytest.approx(dict.fromkeys((4, 8, 16, 32), 0.25), abs=0.03)
    assert len(set(tokens({"name": "per_rollout"}, group_size=16))) > 1


@pytest.mark.parametrize(("value", "budget"), [(0.0, 4), (0.34, 8), (0.66, 16), (1.0, 32), (9, 32)])
def test_harder_questions_get_larger_budgets(value, budget):
    cfg = BudgetConfig(
        train=[4, 8, 16, 32],
        none_share=0.0,
        sampler=BudgetSamplerConfig("difficulty", {"spread": 0.0}),
    )
    question = Question("q", (), "7", meta={"difficulty": value})
    assert sample_budgets(cfg, 0, 0, 2, question=question) == (TokenBudget(budget),) * 2


def test_the_difficulty_of_a_chain_is_its_number_of_operations():
    params = {"field": "ops", "low": 10, "high": 14, "spread": 0}  # the question has 12
    assert tokens({"name": "difficulty", "params": params}, train=(4, 8, 16)) == [8] * 8


def test_a_question_without_the_difficulty_is_named():
    with pytest.raises(DataError, match="question q has no number 'level'"):
        tokens({"name": "difficulty", "params": {"field": "level"}})


def test_adaptive_draws_go_where_there_is_something_to_learn():
    found = shares({"name": "adaptive"}, accuracy={4: 0.0, 8: 0.5, 16: 0.9, 32: 1.0})
    # Weights: .2, 1, .2 + .8 x .36, .2
    assert found == pytest.approx({4: 0.106, 8: 0.53, 16: 0.258, 32: 0.106}, abs=0.03)


def test_weights_must_leave_something_to_draw_at_every_step():
    weights = [0] * 22 + [1]  # only the largest, 30, which the second stage forbids
    overrides = [
        f"budget.sampler={{name: weighted, params: {{weights: {weights}}}}}",
        "budget.schedule={name: staged, params: {stages: [[0, 30], [100, 5]]}}",
    ]
    with pytest.raises(ConfigError, match=r"no weight above 0 .* \[4, 5\]") as caught:
        check(load(bard_tiny.config(), overrides))
    assert caught.value.field == "budget.sampler.params"
    check(load(bard_tiny.config(), overrides[:1]))


LINEAR = {"name": "linear", "params": {"start": 32, "end": 8, "steps": 10}}
LENGTHEN = {"name": "linear", "params": {"start": 1, "end": 32, "steps": 10}}
HALVE = {"name": "exponential", "params": {"start": 32, "gamma": 0.5, "every": 5}}
EXACT = {"name": "exponential", "params": {"start": 32, "gamma": 0.5, "every": 5, "exact": True}}


@pytest.mark.parametrize(
    ("schedule", "step", "allowed"),
    [
        ({"name": "constant"}, 50, {4, 8, 16, 32}),
        (LINEAR, 0, {4, 8, 16, 32}),
        (LINEAR, 5, {4, 8, 16}),
        (LINEAR, 99, {4, 8}),
        (LENGTHEN, 0, {4}),
        (HALVE, 4, {4, 8, 16, 32}),
        (HALVE, 5, {4, 8, 16}),
        (EXACT, 10, {8}),
        ({"name": "staged", "params": {"stages": [[0, 32], [3, 8]]}}, 2, {4, 8, 16, 32}),
        ({"name": "staged", "params": {"stages": [[0, 32], [3, 8]]}}, 3, {4, 8}),
    ],
)
def test_schedules_limit_what_may_be_drawn(schedule, step, allowed):
    numbers = range(10 * step, 10 * step + 10)  # ten groups a step
    drawn = {
        b
        for n in numbers
        for b in tokens({"name": "per_rollout"}, n, group_size=32, schedule=schedule)
    }
    assert drawn == allowed


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.sampler.name=unifrom", "Did you mean uniform"),
        ("budget.sampler.params.weights=[1,2]", "budget.sampler.params.weights"),
        ("budget.schedule.name=linear", "budget.schedule.params"),
        ("budget.sampler={name: weighted, params: {weights: [1, 2]}}", "2 weights for the"),
        ("budget.sampler={name: subgroups, params: {count: 99}}", "cannot be split"),
        ("budget.sampler={name: subgroups, params: {fixed: [7]}}", "not in budget.train"),
        ("budget.sampler={name: subgroups, params: {fixed: 8}}", "list of whole numbers"),
        ("budget.sampler={name: subgroups, params: {fixed: [8.0]}}", "list of whole numbers"),
        ("budget.sampler={name: weighted, params: {weights: [.nan]}}", "not nan"),
        ("budget.sampler={name: weighted, params: {weights: [-1]}}", "at least 0, not -1"),
        ("budget.sampler.name=difficulty", "question chain-rl-0 has no number 'difficulty'"),
        ("budget.schedule={name: staged, params: {stages: [[5, 8]]}}", "from step 0 on"),
        ("budget.schedule={name: staged, params: {stages: [[0, 8], [2.5, 9]]}}", "[step, tokens]"),
        ("budget.schedule={name: staged, params: {stages: [[0, .nan]]}}", "not nan"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_starts(override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(load(bard_tiny.config(), [override]))


@dataclass(frozen=True)
class Indexing:
    """A user's own sampler, which insists on a field of the data set."""

    def budgets(self, draw, generator):
        if "hard" not in draw.question.meta:
            raise ValueError("hard is missing")
        at = min(int(draw.question.meta["hard"]), len(draw.allowed) - 1)
        return [draw.allowed[at]] * draw.group_size


def test_a_sampler_may_read_the_fields_of_a_data_set_in_every_way(tmp_path):
    """The data set is not read yet, so its questions have whatever a sampler asks for."""
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    sampler = f"budget.sampler.name={__name__}:Indexing"
    found = problems(load(bard_8b.config(), [f"data.rows.path={rows}", sampler]))
    assert found == []


def test_the_documented_samplers_and_schedules_are_the_registered_ones():
    text = Path("docs/budgets.md").read_text()
    samplers, schedules = text.split("## Schedules")
    assert re.findall(r"^\| `(\w+)` \|", samplers, re.MULTILINE) == SAMPLERS.names()
    assert re.findall(r"^\| `(\w+)` \|", schedules, re.MULTILINE) == SCHEDULES.names()
    examples = re.findall(r"^    ('?budget\..*)$", text, re.MULTILINE)
    assert len(examples) == 9
    for example in examples:
        check(load(bard_tiny.config(), shlex.split(example)))


@dataclass(frozen=True)
class Invents:
    """A user's schedule that allows a budget that was never taught."""

    def allowed(self, taught, step):
        return (*taught, 7) if step == 3 else taught


@dataclass(frozen=True)
class Nothing:
    """A user's schedule that allows no budget in the end."""

    def allowed(self, taught, step):
        return taught if step < 199 else ()


@pytest.mark.parametrize("schedule", ["Invents", "Nothing"])
def test_a_schedule_is_tried_at_every_step_and_cannot_leak_a_held_out_budget(schedule):
    override = f"budget.schedule.name={__name__}:{schedule}"
    with pytest.raises(ConfigError, match=f"{schedule}.*not some of the budgets") as caught:
        check(load(bard_tiny.config(), [override]))
    assert caught.value.field == "budget.schedule.name"


CAP_16 = {"name": "staged", "params": {"stages": [[0, 16]]}}


def test_the_last_budget_is_the_largest_that_the_schedule_allows():
    drawn = shares({"name": "weighted", "params": {"prior": "last"}}, schedule=CAP_16)
    assert drawn == {16: 1.0}


def test_weights_stay_with_their_budgets_under_a_schedule():
    drawn = shares({"name": "weighted", "params": {"weights": [1, 0, 3, 96]}}, schedule=CAP_16)
    assert drawn == pytest.approx({4: 0.25, 16: 0.75}, abs=0.04)


def test_a_schedule_stays_where_it_is_after_the_last_step():
    stages = BudgetScheduleConfig("staged", {"stages": [[0, 32], [150, 8], [200, 4]]})
    rl = RLConfig(steps=200, prompts_per_step=10)
    cfg = BudgetConfig(train=[4, 8, 16, 32], schedule=stages)
    source = BudgetSource.of(cfg, rl, 0)
    assert [source.allowed(step) for step in (149, 199, 286)] == [(4, 8, 16, 32), (4, 8), (4, 8)]


@pytest.mark.parametrize(("written", "budget"), [("1.0", 8), (" 2 ", 32), (1, 8)])
def test_a_difficulty_may_be_written_as_text(written, budget):
    """That is how readers of data sets leave it."""
    params = {"field": "level", "low": 0, "high": 2, "spread": 0}
    cfg = BudgetConfig(
        train=[4, 8, 32], none_share=0.0, sampler=BudgetSamplerConfig("difficulty", params)
    )
    question = Question("q", (), "7", meta={"level": written})
    assert sample_budgets(cfg, 0, 0, 2, question=question) == (TokenBudget(budget),) * 2


@pytest.mark.parametrize("written", ["Level 5", "nan", True, None, {}])
def test_what_is_no_difficulty_is_refused(written):
    cfg = BudgetConfig(train=[4], none_share=0.0, sampler=BudgetSamplerConfig("difficulty", {}))
    with pytest.raises(DataError, match="no number 'difficulty'"):
        sample_budgets(cfg, 0, 0, 2, question=Question("q", (), "7", meta={"difficulty": written}))
