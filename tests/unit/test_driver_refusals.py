"""Bad input through a recipe's command line: one clear message, exit code 2, and no engine or
cluster started.
"""

from __future__ import annotations

import json
import sys
from unittest.mock import Mock

import pytest

from actors.cluster.ray_cluster import Cluster
from actors.driver import main
from bard_ray.config.schema import ChainConfig, ClusterConfig, TinyModelConfig
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.errors import ConfigError
from recipes.bard_8b import config as config_8b
from recipes.bard_tiny import config

ROOM = [
    "rl.max_new_tokens=120",
    "evaluate.max_new_tokens=120",
    "student.max_len=400",
    "learner.pack_len=400",
]


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Runs the tiny recipe; starting Ray would be a bug."""
    monkeypatch.setattr(
        "actors.cluster.ray_cluster.Cluster.connect",
        lambda self: pytest.fail("a cluster was started"),
    )

    def go(*overrides: str, recipe=config) -> tuple[int, str]:
        code = main(recipe(), [f"run.dir={tmp_path}", *overrides])
        return code, capsys.readouterr().out

    return go


ENOUGH = {"CPU": 64.0, "GPU": 8.0}
# The chains of the data set, labeled with the budgets they fit.
NATURAL = ["distill.teachers={}", "distill.steps=[]", "distill.compressor.name=hindsight"]


def rows(tmp_path, *lines: str) -> list[str]:
    """Overrides for a data set with these lines and an ordinary model directory as student."""
    path, model = tmp_path / "rows.jsonl", tmp_path / "model"
    path.write_text("".join(f"{line}\n" for line in lines))
    write_tiny_model(str(model), TinyModelConfig(), ChainConfig(), 0, 128)
    return [
        "data.source=rows",
        f"data.rows.path={path}",
        *NATURAL,
        f"student.path={model}",
        *ROOM,
    ]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["rl.maxlag=2"], ["rl.maxlag", "rl.max_lag"]),
        (["rl.max_lag=two"], ["rl.max_lag"]),
        (["budget.train=[4,8,12,16,300]"], ["budget.train", "300"]),
        (["student.path=/nowhere/model"], ["student.path", "/nowhere/model"]),
        (["learner.ranks=8"], ["CPU", "learner.ranks"]),
        (["learner.zero_stage=4"], ["learner.zero_stage"]),
        (["rl.group_size=1"], ["rl.group_size"]),
    ],
)
def test_a_bad_setting_is_named_with_its_fix(run, overrides, words):
    code, out = run(*overrides)
    assert code == 2
    assert all(word in out for word in words), out
    assert "Traceback" not in out
    assert out.count("error") == 1


def test_a_missing_model_is_refused(run):
    data = [
        "data.source=rows",
        "data.rows.path=some/data",
        *NATURAL,
        "budget.codec=sentence",
    ]
    code, out = run("student.path=nobody/no-such-model", "student.params=4e5", *data, *ROOM)
    assert code == 2
    assert "nobody/no-such-model" in out
    assert "cache" in out


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ["rows.jsonl", "empty"]),
        (
            [json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) for n in range(2)],
            ["rows.jsonl", "think"],
        ),
        (['{"question": "1+1?", '], ["rows.jsonl", "line 1"]),
    ],
)
def test_bad_data_is_refused_with_the_row(run, tmp_path, lines, words):
    code, out = run(*rows(tmp_path, *lines), "data.eval_questions=1")
    assert code == 2, out
    assert all(word in out for word in words), out


@pytest.mark.parametrize("field", ["run.dir", "distill.store"])
def test_a_submitted_job_refuses_a_path_that_would_be_deleted_with_it(run, monkeypatch, field):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    code, out = run(f"{field}=runs/here")
    assert code == 2
    assert f"{field} = 'runs/here'" in out
    assert f"{field}=/shared/runs" in out


def test_a_relative_path_is_fine_where_the_user_names_a_cluster(run, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr("actors.cluster.ray_cluster.Cluster.connect", Mock(return_value=ENOUGH))
    code, out = run("run.dir=runs", "--dry-run")
    assert code == 0, out


def test_a_run_in_use_is_refused(run, tmp_path):
    from bard_ray.rundir import RunDirectory

    cfg = config()
    cfg.run.dir = str(tmp_path)
    held = RunDirectory.open(cfg)
    code, out = run()
    held.close()
    assert code == 2
    assert "in use by another process" in out


def test_dry_run_shows_placement_and_memory_and_starts_nothing(run, tmp_path):
    code, out = run("--dry-run")
    assert code == 0
    assert "rollout" in out
    assert "GiB" in out
    assert "max_lag: 1" in out
    assert not any(tmp_path.iterdir())


def test_the_8b_recipe_plans_without_a_gpu_or_a_cluster(run, monkeypatch):
    none = ConfigError("cluster.address", "auto", "no Ray cluster answers there", "Start one.")
    monkeypatch.setattr("actors.cluster.ray_cluster.Cluster.connect", Mock(side_effect=none))
    code, out = run("--dry-run", recipe=config_8b)
    assert code == 0
    assert "rollout        3      4     1  72.0 GiB" in out
    assert "no cluster answers at auto" in out


@pytest.mark.parametrize("address", ["auto", "local"])
def test_the_8b_recipe_refuses_a_cluster_that_is_too_small(run, monkeypatch, address):
    small = {"CPU": 64.0, "GPU": 0.0}
    monkeypatch.setattr("actors.cluster.ray_cluster.Cluster.connect", Mock(return_value=small))
    code, out = run("--dry-run", f"cluster.address={address}", recipe=config_8b)
    assert code == 2
    assert "the plan needs 8 GPUs, the cluster has 0" in out
    assert "rollout.workers" in out


def test_a_run_without_the_cluster_it_asks_for_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("ray.init", Mock(side_effect=ConnectionError("no running Ray instance")))
    cluster = Cluster(ClusterConfig(address="auto"), tmp_path, verbose=False)
    with pytest.raises(ConfigError, match="no Ray cluster answers"):
        cluster.connect()


def test_the_command_line_of_the_recipe_reports_errors_without_a_traceback(tmp_path):
    import subprocess

    command = [sys.executable, "recipes/bard_tiny.py", f"run.dir={tmp_path}", "rl.stepz=3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "rl.steps" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_corpus_without_contrast_is_a_warning_not_a_refusal(run):
    code, out = run("distill.compressor.name=hindsight", "--dry-run")
    assert code == 0
    assert "warning: distill.compressor hindsight picks one budget per chain" in out
    assert "warning" not in run("--dry-run")[1]
