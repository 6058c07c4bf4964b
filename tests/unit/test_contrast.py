"""Contrast: how many questions have rows at several budgets, and the warning without it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bard_ray.config.schema import ChainConfig, DataConfig, StudentConfig, TinyModelConfig
from bard_ray.data.prompt import load_prompt_format
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.build_steps import build_steps
from bard_ray.distill.compressor import COMPRESSORS
from bard_ray.distill.contrast import contrast_share, contrast_warning, questions_by_budgets
from bard_ray.distill.filter import FilterContext
from bard_ray.distill.pipeline import Pipeline
from bard_ray.distill.source import record_source
from bard_ray.distill.step import StepTools
from bard_ray.distill.steps.compress import Compress
from bard_ray.distill.teacher import make_backends
from bard_ray.records import NO_BUDGET, DistillRow, Question, TokenBudget
from bard_ray.report.data_facts import DataReport
from bard_ray.report.data_report import write_data_report


def rows(**budgets: tuple[int, ...]) -> list[DistillRow]:
    """Rows of questions at budgets; 0: a row without a budget."""
    return [
        DistillRow(Question(name, (), "1"), TokenBudget(b) if b else NO_BUDGET, "t", "a")
        for name, given in budgets.items()
        for b in given
    ]


def test_questions_are_counted_by_their_different_budgets():
    found = questions_by_budgets(rows(a=(8, 16, 0), b=(8, 8), c=(8, 16, 24, 24), d=(0,)))
    assert found == {1: 1, 2: 1, 3: 1}
    assert contrast_share(found) == 2 / 3
    assert contrast_warning(found) == ""
    assert questions_by_budgets([]) == {}
    assert (contrast_share({}), contrast_warning({})) == (0.0, "")


def test_a_corpus_with_almost_no_contrast_is_a_warning_that_counts():
    assert contrast_warning({1: 90, 2: 10}) == ""
    warning = contrast_warning({1: 1901, 2: 60, 3: 39})
    assert warning.startswith("Only 99 of 2,000 questions have rows at two or more budgets")
    assert "several chains per question" in warning


def test_the_data_report_shows_contrast_and_warns(tmp_path):
    page = write_data_report(tmp_path / "r.html", DataReport("x", contrast={1: 95, 4: 5}))
    text = page.read_text()
    assert "questions at 2+ budgets" in text
    assert "Warning: Only 5 of 100 questions have rows at two or more budgets" in text
    assert json.loads(page.with_suffix(".json").read_text())["questions_by_budgets"] == {
        "1": 95, "4": 5,
    }  # fmt: skip
    good = write_data_report(tmp_path / "g.html", DataReport("x", contrast={1: 5, 4: 95}))
    assert "Warning" not in good.read_text()
    assert '<div class="value">.95</div>' in good.read_text()


FINE, COARSE = (24, 32, 40, 48, 56, 64, 72), (40, 72)


@pytest.mark.parametrize(
    ("chains", "budgets", "low", "high"),
    [(1, FINE, 0.0, 0.0), (2, FINE, 0.6, 0.8), (4, FINE, 0.9, 1.0), (4, COARSE, 0.1, 0.25)],
)
def test_contrast_of_hindsight_needs_several_chains_and_fine_budgets(
    tmp_path, chains, budgets, low, high
):
    """The figures of docs/distillation.md, with fewer questions."""
    write_tiny_model(tmp_path / "m", TinyModelConfig(), ChainConfig(), 0, 128)
    prompts = load_prompt_format(str(tmp_path / "m"), StudentConfig(), "digits")
    host: Any = None
    verbose = {"backend": "exact", "recheck": 0.3, "wander": 0.2}

    async def teacher(name: str) -> Any:
        return await make_backends({name: verbose})[name].open(name, host)

    context = FilterContext()
    tools = StepTools(0, "verbose", prompts, budgets, context, host, teacher, host, host)
    hindsight = COMPRESSORS.build("hindsight", {})
    steps = [
        *build_steps([{"teach": {"chains": chains}}]),
        ("compress", Compress(hindsight, ALLOCATIONS.build("uniform", {}), 4)),
    ]
    source = record_source(DataConfig(), 200, 0, prompts, chains=False)
    pipeline = Pipeline(tmp_path / "store", source, steps, tools, {})
    asyncio.run(pipeline.run())
    found = [DistillRow(r.question, r.budget, r.think, "") for r in pipeline.records()]
    assert low <= contrast_share(questions_by_budgets(found)) <= high
