"""The report of `benchmarks/memory_plan.py` on a made-up measurement."""

from actors.placement.plan import plan_placement
from actors.stages.order import stages_of
from bard_ray.config.load import load
from bard_ray.preflight.check import problems
from benchmarks.memory_plan import (
    CASES,
    MIB,
    Found,
    by_role,
    overrides_of,
    planned_bytes,
    render,
    summarize,
)
from recipes.bard_tiny import config


def found(name: str, learner: float) -> Found:
    planned = {"driver": 100 * MIB, "learner": 300 * MIB, "ray": 50 * MIB}
    measured = {"driver": 100 * MIB, "learner": learner * MIB, "ray": 100 * MIB}
    return Found(name, planned, measured)


def test_the_ratio_is_that_of_the_case_farthest_off_either_way():
    record = summarize([found("near", 260), found("twice as much", 700), found("over", 150)])
    assert [case["ratio"] for case in record["cases"]] == [1.111, 0.5, 1.6]
    assert record["ratio"] == 0.5
    assert record["cases"][1]["measured_mib"]["learner"] == 700
    lines = [line.split("  ", 1)[1].split() for line in render(record).splitlines()[4:]]
    assert ["learner", "300", "700", "0.43"] in lines
    assert ["training", "0.50"] in lines


def test_processes_of_one_role_are_added():
    peaks = {1: ("driver", 10.0), 2: ("ray", 5.0), 3: ("ray", 7.0)}
    assert by_role(peaks) == {"driver": 10.0, "ray": 12.0}


def test_every_case_can_run_and_is_planned(tmp_path):
    for number, case in enumerate(CASES):
        directory = tmp_path / str(number)
        directory.mkdir()
        loaded = load(config(), overrides_of(case, 20, 2, directory))
        assert problems(loaded) == []
        assert {"base", "sft"} & {stage.name for stage in stages_of(loaded)}
        planned = planned_bytes(plan_placement(loaded))
        assert {"driver", "learner", "rollout", "ray"} <= planned.keys()
        assert all(size > 100 * MIB for size in planned.values())
