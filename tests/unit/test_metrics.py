"""Step metrics: contents of metrics.jsonl and TensorBoard after runs, crashes and resumes."""

import json
import math

import pytest

from bard_ray.errors import InvariantError
from bard_ray.metrics import MetricsWriter, read_metrics, series


def scalars(path):
    """Tag to [(step, value)] of one TensorBoard run, as TensorBoard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_a_record_holds_stage_step_time_and_values(tmp_path):
    with MetricsWriter(tmp_path, clock=lambda: 1234.5678) as writer:
        writer.write("rl", 3, {"rl/reward": 0.5, "rl/version": 3})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    expected = {"stage": "rl", "step": 3, "time_s": 1234.568, "rl/reward": 0.5, "rl/version": 3.0}
    assert [json.loads(line) for line in lines] == [expected]


def test_tensorboard_gets_every_value_in_a_run_per_stage(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write("base", 1, {"sft/loss": 2.0})
        writer.write("sft", 1, {"sft/loss": 0.5})
        writer.write("sft", 2, {"sft/loss": 0.25})
    assert scalars(tmp_path / "tensorboard" / "base") == {"sft/loss": [(1, 2.0)]}
    assert scalars(tmp_path / "tensorboard" / "sft") == {"sft/loss": [(1, 0.5), (2, 0.25)]}


def test_a_name_outside_the_table_is_refused_and_nothing_is_written(tmp_path):
    with MetricsWriter(tmp_path) as writer, pytest.raises(InvariantError, match="rl/rewrad"):
        writer.write("rl", 1, {"rl/reward": 1.0, "rl/rewrad": 1.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_record_is_readable_before_the_writer_closes(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write("rl", 1, {"rl/reward": 1.0})
        assert series(read_metrics(tmp_path / "metrics.jsonl"), "rl", "rl/reward") == ([1], [1.0])


def test_a_diverged_loss_stays_valid_json_and_reads_back_as_nan(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write("sft", 1, {"sft/loss": math.nan, "sft/grad_norm": math.inf})
    line = (tmp_path / "metrics.jsonl").read_text()
    strict = json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert strict["sft/loss"] is None
    steps, values = series(read_metrics(tmp_path / "metrics.jsonl"), "sft", "sft/loss")
    assert steps == [1]
    assert math.isnan(values[0])


def test_a_second_writer_appends(tmp_path):
    for step in (1, 2):
        with MetricsWriter(tmp_path) as writer:
            writer.write("rl", step, {"rl/reward": step / 10})
    assert series(read_metrics(tmp_path / "metrics.jsonl"), "rl", "rl/reward") == (
        [1, 2],
        [0.1, 0.2],
    )


def test_resume_drops_only_the_steps_that_are_repeated(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        for step in (1, 2, 3, 4):
            writer.write("sft", step, {"sft/loss": 1.0})
            writer.write("rl", step, {"rl/reward": 0.1})
    with MetricsWriter(tmp_path) as writer:
        writer.truncate_after("rl", 2)
        writer.write("rl", 3, {"rl/reward": 0.9})
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert series(records, "rl", "rl/reward") == ([1, 2, 3], [0.1, 0.1, 0.9])
    assert series(records, "sft", "sft/loss")[0] == [1, 2, 3, 4]
    shown = scalars(tmp_path / "tensorboard" / "rl")["rl/reward"]
    assert [step for step, _ in shown] == [1, 2, 3]
    assert shown[-1][1] == pytest.approx(0.9)


def test_truncating_in_the_middle_of_a_stage_keeps_the_writer_usable(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write("rl", 1, {"rl/reward": 0.1})
        writer.write("rl", 2, {"rl/reward": 0.2})
        writer.truncate_after("rl", 0)
        writer.write("rl", 1, {"rl/reward": 0.3})
    assert series(read_metrics(tmp_path / "metrics.jsonl"), "rl", "rl/reward") == ([1], [0.3])


def test_an_incomplete_last_line_is_removed_and_the_next_record_is_complete(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"stage": "rl", "step": 1, "time_s": 1, "rl/reward": 0.1}\n{"stage": "rl", "st'
    )
    assert len(read_metrics(path)) == 1
    with MetricsWriter(tmp_path) as writer:
        writer.write("rl", 2, {"rl/reward": 0.2})
    assert series(read_metrics(path), "rl", "rl/reward") == ([1, 2], [0.1, 0.2])


def test_no_file_means_no_records(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
