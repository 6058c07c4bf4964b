"""Groups with several budgets, from prompts to metrics, without an engine."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from actors.cluster.wire import pack_groups, unpack_groups
from actors.rollout.engine import TokenOutput
from actors.rollout.worker import PendingGroups, token_requests
from actors.stages.rl import validate_draws
from bard_ray.budget.sampler import BudgetSource
from bard_ray.config.schema import (
    BudgetConfig,
    BudgetSamplerConfig,
    ChainConfig,
    Config,
    DataConfig,
    RLConfig,
    RowsConfig,
    StudentConfig,
    TinyModelConfig,
)
from bard_ray.data.prompt import load_prompt_format
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.errors import DataError
from bard_ray.records import Group, GroupRequest, Message, Question, SamplingSpec, TokenBudget
from bard_ray.rl.bins import BudgetBins
from bard_ray.rl.observe import _adherence_metrics
from bard_ray.rl.sequences import train_sequences

QUESTION = Question("q", (Message("user", "8a+1b*3?"),), "7", "integer")
BUDGETS = (4, 4, 8, 8, 12, 12)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    write_tiny_model(path, TinyModelConfig(), ChainConfig(), seed=0, max_len=128)
    return load_prompt_format(str(path), StudentConfig(), "digits")


@pytest.fixture
def request_() -> GroupRequest:
    sampler = BudgetSamplerConfig("subgroups", {"fixed": [4, 8, 12]})
    cfg = BudgetConfig(train=[4, 8, 12, 16], none_share=0.0, sampler=sampler)
    budgets = BudgetSource.of(cfg, RLConfig(group_size=6), 0).draw(0, QUESTION)
    return GroupRequest(0, QUESTION, budgets, seed=3)


def sampled(item, thinking: int, close_id: int) -> TokenOutput:
    """`thinking` tokens, the closing tag and an answer of one token."""
    tokens_T = np.array([item.prompt_T[0]] * thinking + [close_id, item.prompt_T[0]], np.int32)
    logprobs_T = np.full(tokens_T.size, -1, np.float32)
    return TokenOutput(tokens_T, logprobs_T, np.zeros(tokens_T.size, np.int32), "stop", id=item.id)


def test_every_rollout_keeps_its_own_budget_and_prompt(prompts, request_):
    spec = SamplingSpec(force_budget=True)
    items = token_requests(request_, spec, prompts, 128, "a")
    assert [item.force_at for item in items] == list(BUDGETS)
    assert len({item.seed for item in items}) == 6
    pending = PendingGroups(prompts, spec)
    pending.expect((0, 0), request_, items)
    done = None
    for item in reversed(items):  # they finish in any order
        done = pending.add(sampled(item, 4, prompts.close_id)) or done
    assert done is not None
    [(_, group)] = unpack_groups(pack_groups([done]), {(0, 0): request_})
    assert [r.budget for r in group.rollouts] == [TokenBudget(b) for b in BUDGETS]
    texts = [prompts.decode(r.segments[0].tokens_T) for r in group.rollouts]
    assert [text[8:-7] for text in texts] == [f"<budget>{b:02d}</budget>" for b in BUDGETS]
    forced = [any(s.role == "forced" for s in r.segments) for r in group.rollouts]
    assert forced == [True] * 2 + [False] * 4, "4 tokens reach a budget of 4 only"


def test_advantages_and_adherence_are_those_of_each_rollout(prompts, request_):
    items = token_requests(request_, SamplingSpec(), prompts, 128, "a")
    pending = PendingGroups(prompts, SamplingSpec())
    pending.expect((0, 0), request_, items)
    lengths = (4, 5, 8, 8, 6, 18)
    outputs = [
        pending.add(sampled(i, n, prompts.close_id)) for i, n in zip(items, lengths, strict=True)
    ]
    assert outputs[-1] is not None
    group: Group = replace(outputs[-1][1], rewards_G=np.array([1, 0, 1, 0, 1, 0], np.float32))
    sequences = train_sequences([group], BudgetBins.of([4, 8, 12]), std_normalize=False)
    advantages = [s.advantages_T[-1] for s in sequences if s.advantages_T is not None]
    assert advantages == [0.5, -0.5, 0.5, -0.5, 0.5, -0.5]
    # Deviations: 0, 1/4, 0, 0, 6/12, 6/12; overrun: the second and the last.
    found = _adherence_metrics(group.rollouts)
    assert found["rl/rel_err"] == pytest.approx(1.25 / 6)
    assert found["rl/overrun"] == pytest.approx(2 / 6)


def rows(path, difficulties) -> Config:
    lines = [
        {"question": f"{i} + 1?", "final_answer": str(i + 1), "difficulty": d, "topic": "sums"}
        for i, d in enumerate(difficulties)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    sampler = BudgetSamplerConfig("difficulty", {"low": 1, "high": 9})
    data = DataConfig("rows", rows=RowsConfig(str(path), format="deepmath"), eval_questions=1)
    return Config(data=data, budget=BudgetConfig(train=[4, 8], none_share=0.9, sampler=sampler))


def test_difficulties_are_read_from_the_data_set(tmp_path):
    assert validate_draws(rows(tmp_path / "rows.jsonl", [1.0, 5.5, 9.0, 3.0])) == 3


def test_one_question_without_a_difficulty_is_named_before_training(tmp_path):
    config = rows(tmp_path / "rows.jsonl", [1.0, None, 9.0, 3.0])
    with pytest.raises(DataError, match=r"1 \+ 1\? has no number 'difficulty'"):
        validate_draws(config)
    config.rl.enabled = False
    assert validate_draws(config) == 0


def test_a_data_set_is_not_read_for_a_sampler_that_does_not_need_it(tmp_path):
    config = rows(tmp_path / "rows.jsonl", [None])
    config.budget.sampler = BudgetSamplerConfig("uniform")
    config.data.rows.path = str(tmp_path / "nowhere.jsonl")
    assert validate_draws(config) == 0
