"""One test a rule: the broken field is named, with its value, the rule and a fix."""

import math
from functools import reduce

import pytest

from bard_ray.config.load import load
from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError, MultipleConfigError
from bard_ray.preflight.bounds import BOUNDS
from bard_ray.preflight.check import check, problems
from recipes import bard_8b, bard_tiny


def broken(config: Config, *overrides: str) -> list[ConfigError]:
    return problems(load(config, overrides))


def assert_names(found: list[ConfigError], field: str, rule: str = "") -> None:
    matching = [problem for problem in found if problem.field == field and rule in problem.rule]
    assert matching, f"{field} is not among {[str(problem) for problem in found]}"
    assert matching[0].fix


def test_one_problem_is_raised_as_it_is_and_a_good_configuration_passes():
    check(bard_tiny.config())
    with pytest.raises(ConfigError, match=r"^rl\.group_size = 1: must be at least 2") as caught:
        check(load(bard_tiny.config(), ["rl.group_size=1"]))
    assert type(caught.value) is ConfigError


def test_all_problems_are_reported_at_once():
    overrides = ["rl.group_size=1", "rl.max_lag=-1", "learner.gpus=2", "budget.train=[4,8,8,9,10]"]
    with pytest.raises(MultipleConfigError) as caught:
        check(load(bard_tiny.config(), overrides))
    names = ["rl.group_size", "rl.max_lag", "budget.train", "learner.gpus"]
    assert [problem.field for problem in caught.value.problems] == names
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 settings have to change:"
    assert [line.split(" = ")[0] for line in lines[1:]] == [f"  - {name}" for name in names]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("recipe", [bard_tiny, bard_8b], ids=["tiny", "8b"])
@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.field)
def test_a_field_that_is_wrong_by_itself_brings_no_complaint_about_others(bound, recipe):
    config = recipe.config()
    section, _, name = bound.field.rpartition(".")
    for value in (bound.low - 1, math.nan, *([] if bound.high == math.inf else [bound.high + 1])):
        setattr(reduce(getattr, section.split("."), config), name, value)
        assert [problem.field for problem in problems(config)] == [bound.field]


def test_every_default_lies_within_its_bound():
    assert [problem for bound in BOUNDS for problem in bound.judge(Config())] == []


@pytest.mark.parametrize(
    "override",
    [
        "run.seed=-1",
        "student.tiny.layers=0",
        "student.params=-1",
        "student.max_len=0",
        "data.eval_questions=0",
        "data.chain.max_ops=27",
        "budget.none_share=1.0",
        "distill.smoke.epochs=0",
        "distill.workers=-1",
        "distill.questions=0",
        "sft.lr=0",
        "sft.epochs=0",
        "base.batch_rows=0",
        "sft_full.rows=-1",
        "rl.lr=0",
        "rl.lr=inf",
        "rl.lr=nan",
        "rl.beta2=1.0",
        "rl.min_lr_ratio=1.5",
        "rl.grad_clip=0",
        "rl.weight_decay=-0.1",
        "rl.steps=0",
        "rl.prompts_per_step=0",
        "rl.group_size=1",
        "rl.max_lag=-1",
        "rl.clip_low=0",
        "rl.clip_low=1",
        "rl.clip_high=0",
        "rl.kl_coef=-0.1",
        "rl.temperature=0",
        "rl.checkpoint_every=-1",
        "rl.reward.answer_limit=0",
        "evaluate.samples=0",
        "evaluate.temperature=-1",
        "rollout.workers=0",
        "rollout.gpu_memory_utilization=0",
        "rollout.gpu_memory_utilization=1.1",
        "rollout.cpus=-1",
        "rollout.call_timeout_s=0",
        "learner.ranks=0",
        "learner.zero_stage=4",
        "learner.zero_stage=-1",
        "learner.threads=-1",
        "learner.sft_threads=-1",
        "verifier.workers=-1",
        "verifier.limit_s=0",
        "verifier.memory_mb=16",
        "cluster.cpus=-1",
        "cluster.object_store_mb=10",
    ],
)
def test_out_of_range(override):
    assert [problem.field for problem in broken(bard_tiny.config(), override)] == [
        override.partition("=")[0]
    ]


@pytest.mark.parametrize("name", ["../other", "..", "a/b", "/tmp", "", ".hidden", "a b"])
def test_run_name_cannot_lead_out_of_the_runs_directory(name):
    """`run.fresh` deletes what the name leads to."""
    assert_names(broken(bard_tiny.config(), f"run.name={name}"), "run.name")


@pytest.mark.parametrize(
    ("overrides", "field", "rule"),
    [
        (["run.dir="], "run.dir", ""),
        (["student.think_close=<think>"], "student.think_open", "differ"),
        (["student.think_open=<t>"], "student.think_open", "vocabulary"),
        (["budget.codec=sentence"], "budget.codec", "cannot read"),
        (["student.tiny.hidden=130"], "student.tiny.hidden", "multiple"),
        (["student.path=no/such/model/here"], "student.path", "neither"),
        (["student.path=tinny"], "student.path", "neither"),
        (["data.chain.min_ops=15"], "data.chain.min_ops", "max_ops"),
        (["data.chain.base_min_ops=15"], "data.chain.base_min_ops", "max_ops"),
        (["data.chain.ops=[]"], "data.chain.ops", "operation"),
        (['data.chain.ops=["/2"]'], "data.chain.ops", "operation"),
        (["budget.train=[]"], "budget.train", "no budget"),
        (["budget.train=[8,8,9,10]"], "budget.train", "twice"),
        (["budget.held_out=[8]"], "budget.held_out", r"shares [8]"),
        (["distill.budgets_per_question=24"], "distill.budgets_per_question", "23 different"),
        (["student.max_len=80"], "student.max_len", "81 tokens"),
        (["learner.pack_len=127"], "learner.pack_len", "student.max_len (128)"),
        (["learner.micro_tokens=127"], "learner.micro_tokens", "learner.pack_len (128)"),
        (["rl.max_new_tokens=128"], "rl.max_new_tokens", "no room"),
        (["evaluate.max_new_tokens=128"], "evaluate.max_new_tokens", "no room"),
        (["base.rows=0"], "base.rows", "how many rows"),
        (["evaluate.budgets=[]"], "evaluate.budgets", "no budget"),
        (["evaluate.samples=2", "evaluate.temperature=0"], "evaluate.samples", "the same"),
        (["rollout.block_size=16"], "rollout.block_size", "32"),
        (["rollout.tensor_parallel=2"], "rollout.tensor_parallel", "devices"),
        (["rollout.gpus=1", "rollout.weight_load=background"], "rollout.weight_load", "in place"),
        (["rollout.gpus=0.5"], "rollout.gpu_memory_utilization", "share"),
        (["learner.gpus=2"], "learner.gpus", "one device"),
        (["learner.gpus=0.5", "learner.ranks=2"], "learner.gpus", "share"),
        (["learner.attention=flash_attention_2"], "learner.attention", "GPUs only"),
        (["learner.precision=bfloat16", "learner.zero_stage=0"], "learner.zero_stage", "masters"),
        (["cluster.address=somewhere"], "cluster.address", "head node"),
    ],
)
def test_rule_between_fields(overrides, field, rule):
    assert_names(broken(bard_tiny.config(), *overrides), field, rule)


def test_flash_attention_needs_half_precision():
    assert_names(
        broken(bard_8b.config(), "learner.precision=float32"), "learner.precision", "half precision"
    )


@pytest.mark.parametrize("field", ["budget.train", "budget.held_out", "evaluate.budgets"])
@pytest.mark.parametrize(
    ("overrides", "budget", "limit"),
    [
        ([], 1, "between 2 and"),  # no room for a step
        ([], 56, "between 2 and 55 tokens"),  # 60 new tokens less 5 for the answer
        (["rl.max_new_tokens=30"], 26, "rl.max_new_tokens=30 has room for 25"),
        (["evaluate.max_new_tokens=30"], 26, "evaluate.max_new_tokens=30 has room for 25"),
        # The longest prompt is 2 * 14 + 6 tokens: 70 - 34 - 5 are left.
        (["student.max_len=70"], 32, "31 tokens: student.max_len=70 has room for 31"),
        (
            ["student.max_len=999", "rl.max_new_tokens=900", "evaluate.max_new_tokens=900"],
            100,
            "99 tokens: budget.codec=digits has room for 99",
        ),
    ],
)
def test_impossible_budget(field, overrides, budget, limit):
    found = broken(
        bard_tiny.config(), *overrides, f"{field}=[{budget}]", "distill.budgets_per_question=1"
    )
    assert_names(found, field, limit)
    assert [budget] in [problem.value for problem in found if problem.field == field]


# A student and data of the user's own, with every limit at its default.
OWN = [
    "data.source=rows",
    "data.rows.path=owner/data",
    "student.path=owner/model",
    "distill.teachers={}",
    "distill.steps=[]",
    "distill.compressor.name=hindsight",
    "distill.budgets_per_question=2",
    "learner.pack_len=256",
]


def test_one_edit_makes_room_for_a_budget_in_every_limit():
    budgets = ["budget.train=[500,2000]", "budget.held_out=[1000]", "evaluate.budgets=[8000]"]
    found = broken(bard_tiny.config(), *OWN, *budgets)
    assert [problem.field for problem in found] == [
        "budget.train",
        "budget.held_out",
        "evaluate.budgets",
    ]
    assert found[0].rule == (
        "no budget fits the limits of length: evaluate.max_new_tokens=60 has room for 0, "
        "rl.max_new_tokens=60 has room for 0, student.max_len=128 has room for 0, "
        "budget.codec=digits has room for 99"
    )
    # 64 tokens for the prompt, 8,000 to think and 64 for the answer.
    settings = [
        "student.max_len=8128",
        "evaluate.max_new_tokens=8064",
        "rl.max_new_tokens=8064",
        "learner.pack_len=8128",
        "learner.micro_tokens=8128",
        "budget.codec=sentence",
    ]
    room = f"Change the budget, or make room for 8000 tokens: {' '.join(settings)}."
    assert {problem.fix for problem in found} == {room}
    assert broken(bard_tiny.config(), *OWN, *budgets, *settings) == []


def test_only_limits_that_are_too_small_are_to_be_changed():
    large = ["student.max_len=400", "learner.pack_len=400", "evaluate.max_new_tokens=300"]
    (found,) = broken(bard_tiny.config(), *large, "budget.train=[4,8,12,90]")
    assert found.rule.endswith("2 and 55 tokens: rl.max_new_tokens=60 has room for 55")
    assert found.fix.endswith("make room for 90 tokens: rl.max_new_tokens=95.")


def test_the_tiny_student_has_no_other_codec():
    assert "at most 99 tokens" in broken(bard_tiny.config(), "budget.held_out=[300]")[0].fix


def test_lengths_that_do_not_fit_each_other_are_all_named_with_values_that_do():
    overrides = ["student.max_len=300", "learner.pack_len=200", "learner.micro_tokens=100"]
    found = broken(bard_tiny.config(), *overrides)
    assert [problem.fix for problem in found] == [
        "Set learner.pack_len=300 or more.",
        "Set learner.micro_tokens=300 or more.",
    ]


def test_largest_possible_budget_is_accepted():
    config = load(bard_tiny.config(), ["budget.train=[4,8,12,55]", "evaluate.budgets=[2,55]"])
    assert problems(config) == []


def test_budget_need_not_fit_rl_that_is_off():
    config = load(bard_tiny.config(), ["rl.enabled=false", "rl.max_new_tokens=10"])
    assert problems(config) == []


UNMEASURED = [
    "evaluate.max_new_tokens=10",
    "evaluate.budgets=[]",
    "evaluate.samples=2",
    "evaluate.temperature=0",
]


@pytest.mark.parametrize("off", ["evaluate.enabled=false", "run.goal=corpus"])
def test_settings_of_an_evaluation_that_does_not_run_are_not_judged(off):
    one_teacher = [off, "distill.teacher=clean"]
    assert broken(bard_tiny.config(), *one_teacher, *UNMEASURED) == []
    assert broken(bard_tiny.config(), *one_teacher, "evaluate.budgets=[1,900]") == []
    assert broken(bard_tiny.config(), *one_teacher, "evaluate.max_new_tokens=500") == []


def test_a_smoke_test_samples_as_many_tokens_as_the_evaluation():
    """It asks for training budgets, so they must fit; those of the evaluation need not."""
    found = broken(bard_tiny.config(), "evaluate.enabled=false", *UNMEASURED)
    assert_names(found, "budget.train", "evaluate.max_new_tokens=10 has room for 5")
    assert [p for p in found if p.field.startswith("evaluate")] == []


def test_a_corpus_needs_no_room_for_rl():
    assert broken(bard_tiny.config(), "run.goal=corpus", "rl.max_new_tokens=10") == []


def test_rows_need_a_path_and_a_real_student():
    found = broken(bard_tiny.config(), "data.source=rows")
    assert_names(found, "data.rows.path", "needed")
    assert_names(found, "student.path", "synthetic task")
    assert_names(found, "distill.compressor.name", "synthetic task")


def test_local_rows_must_exist(tmp_path):
    present = tmp_path / "rows.jsonl"
    present.write_text("{}\n")
    assert_names(
        broken(bard_8b.config(), f"data.rows.path={tmp_path}/none.jsonl"),
        "data.rows.path",
        "not exist",
    )
    assert_names(
        broken(bard_8b.config(), "data.rows.eval_path=none.parquet"),
        "data.rows.eval_path",
        "not exist",
    )
    assert broken(bard_8b.config(), f"data.rows.path={present}") == []


def test_student_directory_must_hold_a_model(tmp_path):
    assert_names(
        broken(bard_8b.config(), f"student.path={tmp_path}"), "student.path", "config.json"
    )
    (tmp_path / "config.json").write_text("{}")
    assert broken(bard_8b.config(), f"student.path={tmp_path}") == []


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        (["rl.correction.name=truncate"], "rl.correction.name"),
        (["rl.correction.params.cap=-1"], "rl.correction.params"),
        (["rl.correction.name=masked", "rl.correction.params.cap=2"], "rl.correction.params.cap"),
    ],
)
def test_a_correction_must_exist_and_take_its_parameters(overrides, field):
    assert_names(broken(bard_tiny.config(), *overrides), field)


def test_a_good_correction_passes():
    assert not broken(
        bard_tiny.config(), "rl.correction.name=masked", "rl.correction.params.high=3"
    )
