"""The tiny recipe through its command line: results, golden trace, resume, parallel settings,
interruption.
"""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from bard_ray.checkpoint import verify
from tests.engines.runs import Recipe, marked
from tests.engines.sockets import is_loopback, listeners

pytestmark = [pytest.mark.engines, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def sft(tmp_path_factory) -> Recipe:
    """A run that has been through its supervised stages."""
    recipe = Recipe(tmp_path_factory.mktemp("runs"), "sft")
    recipe.run("rl.enabled=false", "evaluate.enabled=false")
    return recipe


@pytest.fixture(scope="module")
def whole(sft) -> Recipe:
    """The same run, synchronous, to its end."""
    recipe = sft.copy("whole")
    recipe.out = recipe.run("rl.max_lag=0")
    return recipe


def test_a_run_leaves_results_report_student_and_no_process(whole):
    assert whole.survivors() == []
    results = json.loads((whole.path / "results.json").read_text())
    assert set(results["variants"]) == {"sft", "rl"}
    assert set(results["wall_s"]) == {"data", "base", "distill", "sft", "rl", "evaluate"}
    for variant in results["variants"].values():
        assert {"rel_err", "in_band", "overrun", "accuracy", "by_budget"} <= set(variant)
        assert set(variant["by_budget"]) == {"8", "24", "30", "none"}
    assert "<svg" in (whole.path / "report.html").read_text()
    assert "BARD-SFT" in whole.out
    assert verify(whole.path / "export")["stage"] == "rl"
    assert (whole.path / "config.yaml").exists()
    assert list((whole.path / "tensorboard").rglob("events.*"))
    assert {f.name for f in (whole.path / "logs").glob("*-0.log")} == {
        "learner-0.log",
        "reference-0.log",
        "rollout-0.log",
        "verifier-0.log",
    }


def test_the_export_is_an_ordinary_model_that_keeps_to_a_budget(whole):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(whole.path / "export")
    model = AutoModelForCausalLM.from_pretrained(whole.path / "export")
    question = [
        {"role": "user", "content": "8a+1b*3c+1d*3e+1f*3g+1h*3i+1j*3k+1?<budget>24</budget>"}
    ]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**prompt, max_new_tokens=60, do_sample=False)[
        0, prompt["input_ids"].shape[1] :
    ].tolist()
    close = tokenizer.convert_tokens_to_ids("</think>")
    assert close in out
    assert abs(out.index(close) - 24) <= 8


def test_the_same_command_again_does_nothing_but_show_the_table(whole):
    before = (whole.path / "metrics.jsonl").read_bytes()
    out = whole.run("rl.max_lag=0", timeout_s=60)
    assert out.count("done by an earlier command") == 0  # no stage is even looked at
    assert "BARD-SFT" in out
    assert (whole.path / "metrics.jsonl").read_bytes() == before


def test_other_settings_are_refused_for_stages_that_are_done(whole):
    out = whole.run("rl.max_lag=0", "sft.lr=1e-3", code=2, timeout_s=60)
    assert "sft.lr was 0.002, now 0.001" in out


@pytest.fixture(scope="module")
def terminated(sft) -> Recipe:
    """The same run, terminated after a checkpoint inside the RL stage."""
    recipe = sft.copy("again")
    process = recipe.start("rl.max_lag=0", "rl.checkpoint_every=2")
    recipe.wait_for_rl_step(3, process)
    process.send_signal(signal.SIGTERM)
    recipe.out, _ = process.communicate(timeout=60)
    assert process.returncode == 143, recipe.out
    return recipe


def test_a_terminated_run_says_one_line_and_leaves_no_process(terminated):
    *_, stage, last = terminated.out.splitlines()
    assert "  stopped  " in stage
    assert re.fullmatch(r"terminated\. The same command resumes from step [24] of stage rl\.", last)
    assert "SIGTERM" not in terminated.out
    assert terminated.survivors() == []


@pytest.fixture(scope="module")
def early(terminated) -> Recipe:
    """Finished at its newest checkpoint, which is beyond the steps it asks for."""
    recipe = terminated.copy("early")
    recipe.out = recipe.run("rl.max_lag=0", "rl.checkpoint_every=2", "rl.steps=1")
    return recipe


def test_a_run_can_be_finished_early(early):
    steps = early.facts("rl")["steps"]
    assert steps in (2, 4)
    assert [r["step"] for r in early.records()] == list(range(1, steps + 1))
    assert f"ends with the checkpoint of step {steps}" in early.out
    assert set(early.results()["variants"]) == {"sft", "rl"}
    assert f"{steps} steps of 4 prompts" in (early.path / "export" / "README.md").read_text()


def test_synchronous_mode_reproduces_its_trace_through_a_kill_and_an_early_end(early, whole):
    """Terminated, finished early, and made longer again: the same numbers, digit by digit."""
    again = early.copy("longer")
    again.run("rl.max_lag=0", "rl.checkpoint_every=2")
    assert [r["step"] for r in again.records()] == [1, 2, 3, 4, 5, 6]
    assert again.trace() == whole.trace()
    versions = [[r["rl/version"] for r in run.records()] for run in (again, whole)]
    assert versions[0] == versions[1]
    assert again.facts("rl")["steps"] == 6
    before, after = (run.results()["variants"] for run in (early, again))
    assert after["sft"] == before["sft"]
    assert after["rl"] == whole.results()["variants"]["rl"]


def test_more_workers_ranks_zero3_and_lag_have_the_same_effects(sft):
    wide = sft.copy("wide")
    process = wide.start(
        "rollout.workers=2",
        "learner.ranks=2",
        "learner.zero_stage=3",
        "rl.max_lag=2",
        "evaluate.no_budget=false",
    )
    wide.wait_for_rl_step(1, process)
    found = listeners(marked(wide.mark))
    out, _ = process.communicate(timeout=280)
    assert process.returncode == 0, out
    # Ray, both process groups, engines: none of them can be reached from outside the machine.
    assert [f for f in found if not is_loopback(f[2])] == []
    listening = {pid for pid, _, _ in found}
    actors = ("learner-0", "learner-1", "rollout-0", "rollout-1", "verifier-0", "reference-0")
    assert {wide.actor_pid(name) for name in actors} <= listening
    assert len(listening) >= len(actors) + 3  # the driver, GCS and raylet
    records = wide.records()
    assert len(records) == 6
    assert max(r["rl/lag_max"] for r in records) <= 2
    assert all(r["rl/version"] == records[0]["rl/version"] + i for i, r in enumerate(records))
    assert np.mean([r["rl/reward"] for r in records]) > 0.05
    # Behavior log-probs of the engine and the learner's own agree:
    # weights of both learner ranks arrive whole.
    assert all(abs(r["rl/ratio_mean"] - 1) < 0.02 for r in records)
    assert not list(Path("/dev/shm").glob("deepspeed_*"))


def test_ctrl_c_stops_everything(sft):
    """As a terminal sends it: to every process of the group."""
    recipe = sft.copy("interrupted")
    process = recipe.start("rl.max_lag=1", "rl.steps=500")
    recipe.wait_for_rl_step(1, process)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert out.splitlines()[-1] == "stopped. The same command resumes from stage rl."
    assert "Traceback" not in out
    assert recipe.survivors() == []


@pytest.fixture(scope="module")
def given(sft) -> Recipe:
    """RL from the SFT checkpoint of another run."""
    recipe = Recipe(sft.directory, "given")
    student = f"student.path={sft.path}/checkpoints/sft"
    recipe.run(student, "base.enabled=false", "sft.enabled=false", "rl.steps=2")
    return recipe


def test_training_from_a_given_student_measures_it_before(given):
    results = given.results()
    assert set(results["variants"]) == {"student", "rl"}
    assert set(results["wall_s"]) == {"data", "rl", "evaluate"}, (
        "a corpus was made that no stage uses"
    )
    assert verify(given.path / "export")["stage"] == "rl"


def test_an_export_of_another_run_is_measured_without_training(given):
    """The export holds more than a model: a card and a manifest."""
    recipe = Recipe(given.directory, "measured")
    off = [f"{stage}.enabled=false" for stage in ("base", "sft", "rl")]
    recipe.run(f"student.path={given.path}/export", *off)
    results = recipe.results()
    assert set(results["variants"]) == {"student"}
    assert set(results["wall_s"]) == {"data", "evaluate"}
    assert not (recipe.path / "export").exists()
    measured, before = results["variants"]["student"], given.results()["variants"]["rl"]
    assert abs(measured["rel_err"] - before["rel_err"]) < 0.2
