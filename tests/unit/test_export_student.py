"""The exported student, without any engine."""

from __future__ import annotations

import pytest

from actors.stages.export import export_student
from bard_ray.config.load import load
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.report.results import Results
from bard_ray.rundir import RunDirectory
from recipes import bard_tiny


@pytest.mark.parametrize(
    ("overrides", "budget"),
    [([], "16"), (["evaluate.enabled=false", "evaluate.budgets=[]"], "17")],
)
def test_the_card_asks_for_the_middle_budget_of_the_evaluation_else_of_the_training(
    tmp_path, overrides, budget
):
    config = load(bard_tiny.config(), [f"run.dir={tmp_path}", *overrides])
    run = RunDirectory.open(config)
    source = run.checkpoint("sft")
    write_tiny_model(source, config.student.tiny, config.data.chain, seed=0, max_len=128)
    run.finish("sft", 1.0, {})
    target = export_student(run, config, Results())
    run.close()
    assert target is not None
    assert f"<budget>{budget}</budget><think>" in (target / "README.md").read_text()
