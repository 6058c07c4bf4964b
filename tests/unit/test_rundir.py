"""What a command may resume from."""

from __future__ import annotations

import pytest

from bard_ray.errors import ConfigError, RunStateError
from bard_ray.rundir import RunDirectory
from recipes.bard_tiny import config


@pytest.fixture
def cfg(tmp_path):
    cfg = config()
    cfg.run.dir = str(tmp_path)
    return cfg


def begin(cfg, *stages: str) -> RunDirectory:
    run = RunDirectory.open(cfg)
    for stage in stages:
        run.finish(stage, 1.5, {"rows": 3})
    return run


def test_finished_stages_are_remembered(cfg):
    begin(cfg, "distill", "base").close()
    run = RunDirectory.open(cfg)
    assert run.is_done("base")
    assert not run.is_done("sft")
    assert run.wall_s == {"distill": 1.5, "base": 1.5}
    assert run.facts("distill") == {"rows": 3}
    run.close()


def test_settings_of_stages_still_to_come_may_change(cfg):
    begin(cfg, "distill", "base", "sft").close()
    cfg.rl.max_lag, cfg.rollout.workers = 3, 2
    RunDirectory.open(cfg).close()


@pytest.mark.parametrize("stage", ["distill", "rl", "evaluate"])
def test_how_answers_were_graded_may_not_change(cfg, stage):
    run = begin(cfg, "data")
    run.finish(stage, 1.0, {"steps": 200, "steps_asked": 200})
    run.close()
    cfg.verifier.kinds = {"chess": "my_graders:grade_chess"}
    with pytest.raises(RunStateError, match=r"verifier\.kinds was \{\}, now \{'chess'"):
        RunDirectory.open(cfg)


def test_settings_of_the_machinery_may_change_after_any_stage(cfg):
    run = begin(cfg, "data", "base", "distill", "sft_full", "sft", "evaluate")
    run.finish("rl", 1.0, {"steps": 200, "steps_asked": 200})
    run.close()
    cfg.learner.precision, cfg.learner.attention, cfg.learner.ranks = "float32", "sdpa", 2
    cfg.rollout.dtype, cfg.reference.precision = "bfloat16", "float32"
    cfg.verifier.limit_s, cfg.cluster.cpus = 9.0, 7
    RunDirectory.open(cfg).close()


def test_settings_of_finished_stages_may_not(cfg):
    begin(cfg, "distill", "sft").close()
    cfg.sft.lr = 1.0
    with pytest.raises(RunStateError, match=r"sft\.lr was 0\.002, now 1\.0"):
        RunDirectory.open(cfg)


def test_a_checkpoint_inside_the_rl_stage_pins_its_settings(cfg):
    run = begin(cfg, "distill", "sft")
    run.checkpoint("rl-state").mkdir(parents=True)
    run.close()
    cfg.rl.group_size = 4
    with pytest.raises(RunStateError, match=r"rl\.group_size"):
        RunDirectory.open(cfg)


def test_the_weights_that_rl_started_from_may_not_change(cfg):
    run = begin(cfg, "data")
    run.finish("rl", 1.0, {"steps": 200, "steps_asked": 200})
    run.close()
    cfg.sft.enabled = False
    with pytest.raises(RunStateError, match=r"sft\.enabled was True, now False"):
        RunDirectory.open(cfg)


@pytest.mark.parametrize("steps", [5, 400])
def test_rl_may_become_shorter_or_longer_while_it_is_unfinished(cfg, steps):
    run = begin(cfg, "distill", "sft")
    run.checkpoint("rl-state").mkdir(parents=True)
    run.close()
    cfg.rl.steps, cfg.rl.checkpoint_every = steps, 7
    RunDirectory.open(cfg).close()


def finished_rl(cfg, steps: int, asked: int, *, checkpoint: bool) -> RunDirectory:
    run = begin(cfg, "data", "sft")
    run.finish("rl", 1.0, {"steps": steps, "steps_asked": asked})
    run.finish("evaluate", 1.0, {"variants": ["sft", "rl"]})
    (run.path / "evals").mkdir()
    for variant in ("sft", "rl"):
        (run.path / "evals" / f"{variant}.json").write_text("{}")
    if checkpoint:
        run.checkpoint("rl-state").mkdir(parents=True)
    run.close()
    return run


def test_a_finished_rl_stage_continues_from_its_checkpoint_and_is_measured_again(cfg):
    finished_rl(cfg, 200, 200, checkpoint=True)
    cfg.rl.steps = 300
    run = RunDirectory.open(cfg)
    assert [run.is_done(stage) for stage in ("sft", "rl", "evaluate")] == [True, False, False]
    assert [path.name for path in (run.path / "evals").iterdir()] == ["sft.json"]
    run.close()
    again = RunDirectory.open(cfg)
    assert not again.is_done("rl")
    again.close()


def test_without_a_checkpoint_a_finished_rl_stage_says_how_to_start_from_its_student(cfg):
    run = finished_rl(cfg, 200, 200, checkpoint=False)
    cfg.rl.steps = 300
    with pytest.raises(RunStateError, match=f"student.path={run.path}/checkpoints/rl"):
        RunDirectory.open(cfg)


def test_steps_that_were_trained_cannot_be_taken_back(cfg):
    finished_rl(cfg, 200, 200, checkpoint=True)
    cfg.rl.steps = 100
    with pytest.raises(RunStateError, match="holds a student of 200 RL steps"):
        RunDirectory.open(cfg)


@pytest.mark.parametrize("steps", [100, 300])
def test_a_command_for_the_corpus_leaves_a_finished_student_as_it_is(cfg, steps):
    """It trains nothing, so it neither continues RL nor takes steps back."""
    finished_rl(cfg, 200, 200, checkpoint=True)
    cfg.run.goal, cfg.rl.steps = "corpus", steps
    run = RunDirectory.open(cfg)
    assert [run.is_done(stage) for stage in ("rl", "evaluate")] == [True, True]
    assert (run.path / "evals" / "rl.json").exists()
    run.close()


@pytest.mark.parametrize("steps", [60, 80])
def test_the_command_that_finished_a_run_early_does_nothing_again(cfg, steps):
    """It asked for 60 steps, and the newest checkpoint was at 80."""
    finished_rl(cfg, 80, 60, checkpoint=True)
    cfg.rl.steps = steps
    run = RunDirectory.open(cfg)
    assert run.is_done("rl")
    assert run.is_done("evaluate")
    run.close()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_run_cannot_start_from_a_model_in_its_own_directory(cfg, fresh):
    run = begin(cfg)
    export = run.path / "export"
    export.mkdir()
    run.close()
    cfg.student.path, cfg.run.fresh = str(export), fresh
    with pytest.raises(ConfigError, match="inside the directory of this run"):
        RunDirectory.open(cfg)
    assert export.exists()


def test_a_sweep_that_was_begun_pins_its_settings(cfg):
    run = begin(cfg, "distill", "sft")
    (run.path / "evals").mkdir()
    run.close()
    cfg.evaluate.samples = 4
    with pytest.raises(RunStateError, match=r"evaluate\.samples"):
        RunDirectory.open(cfg)


def test_what_corpora_exist_is_settled_by_the_first_stage(cfg):
    begin(cfg, "distill").close()
    cfg.sft_full.rows = 10
    with pytest.raises(RunStateError, match=r"sft_full\.rows"):
        RunDirectory.open(cfg)


def test_weights_of_an_attempt_that_finished_no_stage_are_not_used(cfg):
    run = begin(cfg)
    run.checkpoint("student").mkdir(parents=True)
    run.close()
    cfg.run.seed = 1
    run = RunDirectory.open(cfg)
    assert not run.checkpoint("student").exists()
    run.close()


@pytest.mark.parametrize(
    ("now", "then", "message"),
    [
        ("distill:", "distil:", r"distil\.store = '': is now called distill\.store"),
        ("std_normalize:", "std_normalise:", r"rl\.std_normalise = True: is now called rl\.std_n"),
        ("allocation:", "spread:", r"distill\.spread\.name = 'uniform': is now called distill\.al"),
        ("oversample:", "surplus:", r"rl\.surplus = 0\.0: is no field of the configuration"),
    ],
)
def test_a_run_of_an_older_version_is_refused_with_the_new_name(cfg, now, then, message):
    run = begin(cfg, "distill")
    run.close()
    file = run.path / "config.yaml"
    file.write_text(file.read_text().replace(now, then))
    with pytest.raises(RunStateError, match=message) as caught:
        RunDirectory.open(cfg)
    assert caught.value.path == str(file)
    assert "run.fresh=true" in caught.value.fix


def test_one_process_at_a_time(cfg):
    run = begin(cfg)
    with pytest.raises(RunStateError, match="in use"):
        RunDirectory.open(cfg)
    run.close()
    RunDirectory.open(cfg).close()


def test_fresh_deletes_what_was_there_and_nothing_beside_it(cfg, tmp_path):
    (tmp_path / "other").mkdir()
    run = begin(cfg, "distill")
    (run.path / "data").mkdir()
    run.close()
    cfg.run.fresh = True
    cfg.sft.lr = 1.0
    run = RunDirectory.open(cfg)
    assert not run.is_done("distill")
    assert not (run.path / "data").exists()
    assert (tmp_path / "other").exists()
    run.close()
