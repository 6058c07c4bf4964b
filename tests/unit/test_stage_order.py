"""Stages run only where something that is wanted comes of them."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any, cast

import pytest

from actors.stages.context import Context
from actors.stages.evaluate import variants
from actors.stages.order import resume_point, stages_of
from bard_ray.checkpoint import described_directory
from bard_ray.config.load import load
from bard_ray.errors import ConfigError
from bard_ray.files import write_json
from bard_ray.preflight import needs
from bard_ray.rundir import RunDirectory
from recipes.bard_tiny import config


def names(*overrides: str) -> list[str]:
    return [stage.name for stage in stages_of(load(config(), overrides))]


def off(*sections: str) -> list[str]:
    return [f"{section}.enabled=false" for section in sections]


def test_the_whole_recipe_runs_every_stage():
    assert names() == ["data", "base", "distill", "sft_full", "sft", "rl", "evaluate"]


def test_without_supervised_stages_no_corpus_is_made():
    assert names(*off("base", "sft_full", "sft")) == ["data", "rl", "evaluate"]


def test_weights_pass_through_a_stage_that_is_disabled_but_its_corpus_does_not():
    assert names(*off("sft_full", "sft")) == ["data", "base", "rl", "evaluate"]


def test_the_comparison_is_trained_only_to_be_measured():
    assert names(*off("evaluate", "rl")) == ["data", "base", "distill", "sft"]


def test_a_given_student_is_measured_without_any_training():
    assert names(*off("base", "sft_full", "sft", "rl")) == ["data", "evaluate"]


def test_the_corpus_alone_needs_a_student_only_where_steps_or_the_smoke_test_use_it():
    corpus = ["run.goal=corpus", "distill.teacher=clean"]
    assert names(*corpus) == ["data", "distill"]
    assert names("run.goal=corpus") == ["data", "base", "distill"]  # three teachers to choose from
    sampled = "distill.steps=[{sample_student: {samples: 2}}, teach, grade, correct]"
    assert names(*corpus, sampled) == ["data", "base", "distill"]


def test_a_run_without_anything_to_do_is_refused():
    with pytest.raises(ConfigError, match=r"run\.goal=corpus"):
        names(*off("sft", "rl", "evaluate"))


SWITCHES = [f"{name}.enabled" for name in ("base", "sft_full", "sft", "rl", "evaluate")]
ONE_TEACHER = ["distill.teacher=clean"]
SAMPLED = [*ONE_TEACHER, "distill.steps=[{sample_student: {samples: 2}}, teach, grade, correct]"]


@pytest.mark.parametrize("goal", ["student", "corpus"])
@pytest.mark.parametrize("data", [[], ONE_TEACHER, SAMPLED])
def test_what_a_run_needs_agrees_with_its_stages(goal, data):
    seen = 0
    for values in product(["true", "false"], repeat=len(SWITCHES)):
        settings = [f"{name}={value}" for name, value in zip(SWITCHES, values, strict=True)]
        run = load(config(), [f"run.goal={goal}", *data, *settings])
        with suppress(ConfigError):  # nothing to do
            stages = {stage.name for stage in stages_of(run)}
            smoke = not data and "distill" in stages
            trained = bool(stages & {"base", "sft_full", "sft", "rl"})
            assert needs.builds_corpus(run) == ("distill" in stages), settings
            assert needs.has_smoke_test(run) == smoke, settings
            assert needs.runs_rl(run) == ("rl" in stages), settings
            assert needs.evaluates(run) == ("evaluate" in stages), settings
            assert needs.trains(run) == (smoke or trained), settings
            seen += 1
    assert seen == (28 if goal == "student" else 32)


@pytest.fixture
def context(tmp_path):
    """Of a run whose finished stages the test chooses."""

    def make(*done: str, overrides: list[str]) -> Context:
        settings = load(config(), [f"run.dir={tmp_path}", *overrides])
        run = RunDirectory.open(settings)
        for stage in done:
            run.finish(stage, 1.0, {})
        run.close()
        nothing = cast(Any, None)
        return Context(settings, run, nothing, "given", nothing)

    return make


def measured(context: Context) -> list[tuple[str, str]]:
    place = str(context.run.path.resolve())
    return [(v.name, v.weights.removeprefix(f"{place}/checkpoints/")) for v in variants(context)]


def test_what_is_measured_of_a_whole_run(context):
    done = ("data", "base", "distill", "sft_full", "sft", "rl")
    assert measured(context(*done, overrides=[])) == [
        ("sft", "sft"),
        ("rl", "rl"),
        ("sft_full_forced", "sft_full"),
    ]


def test_a_given_student_is_the_row_before_its_training(context):
    overrides = off("base", "sft_full", "sft")
    run = context("data", "rl", overrides=overrides)
    assert measured(run) == [("student", "given"), ("rl", "rl")]
    assert run.weights_before("rl") == "given"


def test_the_stand_in_for_a_pretrained_student_is_the_row_before_too(context):
    run = context("data", "base", "rl", overrides=off("sft_full", "sft"))
    assert measured(run) == [("student", "base"), ("rl", "rl")]


def test_a_given_student_is_all_there_is_where_nothing_was_trained(context):
    run = context("data", overrides=off("base", "sft_full", "sft", "rl"))
    assert measured(run) == [("student", "given")]


def test_where_the_same_command_resumes(context):
    run = context("data", "base", "distill", "sft_full", "sft", overrides=[])
    assert resume_point(run.run, run.config) == "stage rl"
    with described_directory(run.run.checkpoint("rl-state"), step=40) as aside:
        write_json(aside / "loop.json", {"step": 40})
    assert resume_point(run.run, run.config) == "step 40 of stage rl"
    again = context("rl", overrides=[])
    assert resume_point(again.run, again.config) == "stage evaluate"
