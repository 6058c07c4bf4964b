"""Placement and memory against numbers worked out by hand."""

import json

import pytest
import torch
from safetensors.torch import save_file

from actors.placement.deployment import bundles
from actors.placement.plan import (
    MAX_AUTO_VERIFIERS,
    check_memory,
    check_resources,
    plan_placement,
    render,
    sized,
)
from bard_ray.config.load import load
from bard_ray.data.tiny_model import write_tiny_model
from bard_ray.errors import ConfigError, ResourceError
from bard_ray.model_files import stored_params
from bard_ray.preflight.memory import GIB, GPU_PROCESS_BYTES, KNOWN_SHAPES, model_shape
from recipes import bard_8b, bard_tiny

TINY_PARAMS = 434_944  # 64*128 + 2*(4*128*128 + 3*128*384 + 2*128 + 2*32) + 128
P8 = 8.19e9


def tiny(*overrides):
    return plan_placement(load(bard_tiny.config(), overrides))


CLUSTER = {"CPU": 48.0, "GPU": 8.0}  # one node of eight GPUs


def large(*overrides):
    return plan_placement(sized(load(bard_8b.config(), overrides), CLUSTER, local=False))


def parts(plan, role):
    return {name: size / GIB for name, size in plan.role(role).memory.parts.items()}


def test_tiny_placement_fills_two_cpus():
    plan = tiny()
    assert {role.name: (role.count, role.bundle) for role in plan.roles} == {
        "rollout": (1, {"CPU": 0.75}),
        "learner": (1, {"CPU": 0.75}),
        "reference": (1, {"CPU": 0.25}),
        "verifier": (1, {"CPU": 0.25}),
    }
    assert plan.total("CPU") == 2.0
    assert plan.total("GPU") == 0.0
    check_resources(plan, {"CPU": 2.0})


@pytest.mark.parametrize(
    ("cpus", "workers"), [(2, 1), (48, 8), (33, 1), (44.5, 4), (500, MAX_AUTO_VERIFIERS)]
)
def test_the_verifier_pool_takes_the_cpus_that_are_left(cpus, workers):
    config = sized(
        bard_8b.config(), {"CPU": float(cpus)}, local=False
    )  # the other roles take 32, teachers 8
    assert config.verifier.workers == workers


def test_a_number_of_verifiers_that_was_named_is_kept():
    config = load(bard_8b.config(), ["verifier.workers=3"])
    assert sized(config, {"CPU": 500.0}, local=True).verifier.workers == 3


@pytest.mark.parametrize(
    ("cpus", "expected"),
    # 1.75 CPUs are reserved for rollout, learner and reference; a verifier takes 0.25
    [(2, (1, 1)), (3, (1, 1)), (4, (2, 2)), (6, (4, 4)), (8, (6, 5)), (48, (16, 16))],
)
def test_verifiers_leave_most_free_cpus_to_the_threads_of_the_learner(cpus, expected):
    config = load(bard_tiny.config(), ["learner.threads=0"])
    config = sized(config, {"CPU": float(cpus)}, local=True)
    assert (config.verifier.workers, config.learner.threads) == expected


@pytest.mark.parametrize(("cpus", "workers"), [(2, 1), (4, 9), (48, 16)])
def test_verifiers_take_all_free_cpus_where_the_threads_of_the_learner_are_given(cpus, workers):
    config = sized(bard_tiny.config(), {"CPU": float(cpus)}, local=True)
    assert (config.verifier.workers, config.learner.threads) == (workers, 1)


def threads(*overrides: str, cpus: float, local: bool = True) -> tuple[int, int]:
    config = load(bard_tiny.config(), ["verifier.workers=1", *overrides])
    learner = sized(config, {"CPU": cpus}, local=local).learner
    return learner.threads, learner.sft_threads


@pytest.mark.parametrize(
    ("cpus", "overrides", "expected"),
    [
        (2, [], (1, 2)),  # the other roles take 1.25
        (8, [], (6, 8)),
        (8, ["rl.kl_coef=0"], (7, 8)),
        (8, ["learner.ranks=2"], (3, 4)),
        (1, ["learner.ranks=2"], (1, 1)),
        (64, [], (16, 16)),
        (8, ["learner.sft_threads=3"], (6, 3)),
    ],
)
def test_learner_threads_are_the_cpus_that_are_free_on_this_machine(cpus, overrides, expected):
    """In supervised stages the other roles are idle, so all CPUs are free."""
    assert threads("learner.threads=0", *overrides, cpus=cpus) == expected


@pytest.mark.parametrize(("cpus", "expected"), [(0.75, 1), (4, 4)])
def test_on_a_given_cluster_a_learner_has_as_many_threads_as_cpus(cpus, expected):
    overrides = ["learner.threads=0", f"learner.cpus={cpus}"]
    assert threads(*overrides, cpus=500, local=False) == (expected, expected)


def test_learner_threads_that_were_named_are_kept():
    assert threads("learner.threads=5", cpus=64) == (5, 5)
    assert threads("learner.threads=5", "learner.sft_threads=9", cpus=64) == (5, 9)
    assert threads(cpus=64) == (1, 1)  # the tiny recipe: the same numbers on every machine


def test_large_placement_fills_eight_gpus():
    plan = large()
    assert plan.total("GPU") == 8
    assert plan.total("CPU") == 3 * 4 + 4 * 4 + 4 + 8
    assert plan.role("learner").bundle == {"CPU": 4, "GPU": 1}


UNTRAINED = ["base.enabled=false", "sft_full.enabled=false", "sft.enabled=false"]
UNTRAINED += ["rl.enabled=false"]


def test_a_run_that_only_measures_a_given_student_needs_no_learner():
    plan = large(*UNTRAINED)
    assert [role.name for role in plan.roles] == ["rollout", "verifier"]
    assert plan.total("GPU") == 3
    assert bundles(plan)[:4] == [{"CPU": 4, "GPU": 1}] * 3 + [{"CPU": 1}]


def test_a_corpus_needs_the_learner_only_for_a_smoke_test_or_a_student_to_sample():
    def roles(*overrides: str) -> list[str]:
        return [role.name for role in tiny("run.goal=corpus", *overrides).roles]

    assert roles("distill.teacher=clean") == ["rollout", "verifier"]
    assert roles("rl.enabled=false") == ["rollout", "learner", "verifier"]  # of three teachers
    sampled = ["distill.teacher=clean", "distill.steps=[{sample_student: {samples: 2}}, teach]"]
    assert "learner" in roles(*sampled)
    assert "learner" not in roles(*sampled, "base.enabled=false")


def test_without_a_learner_its_cpus_are_free():
    config = load(bard_tiny.config(), [*UNTRAINED, "learner.threads=0", "verifier.workers=1"])
    learner = sized(config, {"CPU": 8.0}, local=True).learner
    assert learner.threads == 7, "of a reference worker, had it one; rollout and verifier take 1"
    config = load(bard_tiny.config(), UNTRAINED)
    assert sized(config, {"CPU": 4.0}, local=True).verifier.workers == 13  # 3.25 CPUs


@pytest.mark.parametrize("override", ["rl.kl_coef=0", "rl.enabled=false"])
def test_reference_is_planned_only_where_it_is_used(override):
    assert tiny(override).role("reference") is None


def test_too_few_resources_name_the_fields_to_lower():
    with pytest.raises(ResourceError) as caught:
        check_resources(tiny("rollout.workers=3"), {"CPU": 2.0})
    assert (caught.value.needed, caught.value.available) == (3.5, 2.0)
    assert "rollout.workers (3 x 0.75 CPU)" in caught.value.fix
    with pytest.raises(ResourceError, match="8 GPUs, the cluster has 0"):
        check_resources(large(), {"CPU": 64.0})


def test_tiny_shape_is_that_of_the_model_really_written(tmp_path):
    config = bard_tiny.config()
    write_tiny_model(tmp_path, config.student.tiny, config.data.chain, seed=0, max_len=128)
    planned = model_shape(config)
    assert planned.params == stored_params(tmp_path) == TINY_PARAMS
    written = model_shape(load(config, [f"student.path={tmp_path}"]))
    assert (written.layers, written.hidden, written.vocab, written.params) == (
        2,
        128,
        planned.vocab,
        TINY_PARAMS,
    )


def test_parameters_are_read_from_the_headers_of_every_shard(tmp_path):
    save_file(
        {"a": torch.zeros(3, 5)},
        tmp_path / "model-00001-of-00002.safetensors",
        metadata={"format": "pt"},
    )
    save_file(
        {"b": torch.zeros(7), "c": torch.zeros(())}, tmp_path / "model-00002-of-00002.safetensors"
    )
    assert stored_params(tmp_path) == 15 + 7 + 1
    assert stored_params(tmp_path / "none") == 0


def test_published_parameter_counts_of_the_known_shapes():
    billions = {shape.source: round(shape.counted() / 1e9, 2) for shape in KNOWN_SHAPES}
    assert billions == {
        "Qwen3-0.6B": 0.6,
        "Qwen3-1.7B": 1.72,
        "Qwen3-4B": 4.02,
        "Qwen3-8B": 8.19,
        "Qwen3-14B": 14.77,
        "Qwen3-32B": 32.76,
    }


def test_model_of_unknown_size_asks_for_it():
    with pytest.raises(ConfigError) as caught:
        large("student.path=nobody/knows-it", "student.params=0")
    assert caught.value.field == "student.params"


def test_config_file_without_sizes_is_a_user_error(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}))
    with pytest.raises(ConfigError, match="num_attention_heads"):
        large(f"student.path={tmp_path}")


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [(1, 2 * P8, 4 * P8, 3 * P8), (2, 2 * P8, P8, 3 * P8), (3, P8 / 2, P8, 3 * P8)],
)
def test_zero_stages_share_states_over_four_ranks(stage, weights, gradients, optimizer):
    learner = parts(large(f"learner.zero_stage={stage}"), "learner")
    assert learner["weights"] == pytest.approx(weights / GIB)
    assert learner["gradients"] == pytest.approx(gradients / GIB)
    assert learner["optimizer"] == pytest.approx(optimizer / GIB)


@pytest.mark.parametrize(("stage", "each"), [(0, 16), (1, 20), (2, 20)])
def test_float32_states_take_sixteen_bytes_a_parameter_and_zero_a_copy_of_the_weights(stage, each):
    learner = tiny(f"learner.zero_stage={stage}").role("learner").memory.parts
    assert learner["weights"] + learner["gradients"] + learner["optimizer"] == each * TINY_PARAMS
    assert learner.get("buckets", 0) == (4 * TINY_PARAMS if stage else 0)


@pytest.mark.parametrize(("stage", "elements"), [(1, 2e9), (2, 2e9), (3, 1e9)])
def test_gradient_buckets_of_a_gpu_have_half_a_billion_elements(stage, elements):
    # float32 in stage 1, two of bfloat16 in stage 2, one in stage 3.
    assert large(f"learner.zero_stage={stage}").role("learner").memory.parts["buckets"] == elements


def test_large_vocabularies_need_room_for_the_gradient_of_the_output_embedding():
    # 64 M logits in four copies of float32, and 151,936 x 4,096 weights in 4 + 2 + 2 bytes.
    logits = 4 * 4 * (1 << 26) + 8 * 151_936 * 4096
    assert large().role("learner").memory.parts["logits"] == logits


def test_activations_with_and_without_recompute():
    # 10,240 tokens; h = q = 4096, kv = 1024, mlp = 12,288; recompute keeps h values of 2 bytes a
    # layer and one layer.
    layer = 10_240 * (16 * 4096 + 14 * 4096 + 6 * 1024 + 8 * 12_288)
    assert parts(large("learner.recompute=false"), "learner")["activations"] == pytest.approx(
        36 * layer / GIB
    )
    kept = 2 * 10_240 * 4096 * 36
    assert parts(large(), "learner")["activations"] == pytest.approx((kept + layer) / GIB)


def test_a_cpu_rollout_worker_has_room_for_the_weights_that_come_next():
    parts = tiny().role("rollout").memory.parts
    assert parts["next weights"] == parts["weights"]
    assert "next weights" not in tiny("rollout.weight_load=in_place").role("rollout").memory.parts


def test_gpu_rollout_cache_takes_what_weights_leave():
    rollout = large().role("rollout").memory
    assert rollout.capacity == pytest.approx(0.9 * 80 * GIB)
    assert rollout.parts["weights"] == pytest.approx(2 * P8)
    assert rollout.parts["kv cache"] == pytest.approx(0.9 * 80 * GIB - 2 * P8 - GPU_PROCESS_BYTES)
    halved = large("rollout.tensor_parallel=2", "rollout.gpus=2").role("rollout").memory
    assert halved.parts["weights"] == pytest.approx(P8)


def test_tiny_cache_holds_512_full_sequences():
    # 128 MiB over 2 (keys, values) * 128 tokens * 2 layers * 128 values * 4 bytes
    assert tiny().cached_sequences == (128 << 20) // (2 * 128 * 2 * 128 * 4) == 512


def test_both_recipes_fit():
    check_memory(large())
    check_memory(tiny(), host_gib=8)


@pytest.mark.parametrize(
    ("overrides", "resource", "fix"),
    [
        (["learner.zero_stage=1", "learner.ranks=2"], "learner", "learner.zero_stage"),
        (["learner.recompute=false", "learner.micro_tokens=40960"], "learner", "learner.recompute"),
        (["student.path=big/model", "student.params=72e9"], "rollout", "rollout.tensor_parallel"),
        (
            [
                "reference.precision=float32",
                "student.params=20e9",
                "rollout.gpus=2",
                "rollout.tensor_parallel=2",
                "learner.ranks=16",
            ],
            "reference",
            "reference.precision",
        ),
    ],
)
def test_what_does_not_fit_a_device_is_refused(overrides, resource, fix):
    with pytest.raises(ResourceError) as caught:
        check_memory(large(*overrides))
    assert resource in caught.value.resource
    assert fix in caught.value.fix
    assert caught.value.needed > caught.value.available


def test_cache_too_small_for_one_sequence_is_refused():
    with pytest.raises(ResourceError, match=r"rollout\.kv_cache_mb"):
        check_memory(tiny("rollout.kv_cache_mb=1", "student.max_len=1024", "learner.pack_len=1024"))


def test_many_cpu_processes_need_main_memory():
    with pytest.raises(ResourceError, match="main memory"):
        check_memory(tiny("rollout.workers=8"), host_gib=8)


def test_main_memory_holds_the_driver_with_its_largest_corpus_and_ray():
    plan = tiny("distill.questions=100000", "sft_full.enabled=false")
    # Four rows a question: 34 tokens of prompt, 17 to think, 5 to answer; at 3,000 bytes and ten
    # a token.
    assert plan.driver.parts["corpus"] == pytest.approx(
        400_000 * (3000 + 10 * (34 + 17 + 5)), rel=0.01
    )
    assert plan.ray.parts["object store"] == 512 << 20
    roles = sum(role.count * role.memory.total for role in plan.roles)
    assert plan.host_bytes == roles + plan.driver.total + plan.ray.total
    assert large().ray.total == 0  # a given cluster has its own


def test_dry_run_table_shows_counts_totals_and_limits():
    lines = render(large()).splitlines()
    table = {line.split()[0]: line.split() for line in lines if line}
    assert table["rollout"][1:8] == ["3", "4", "1", "72.0", "GiB", "72.0", "GiB"]
    assert table["total"] == ["total", "40", "8"]
    assert "8.19 B parameters" in lines[1]
    assert lines[0] == "bard_8b: 3 rollout workers, 4 learner ranks, 1 reference, 8 verifiers"
