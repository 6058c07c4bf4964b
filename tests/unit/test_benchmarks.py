"""Every benchmark: its command line, its report on a made-up measurement, and its baseline."""

from __future__ import annotations

import importlib
import json
import re
from datetime import date
from pathlib import Path

import pytest

from benchmarks.__main__ import benchmark_names, load_benchmark
from benchmarks.__main__ import main as list_benchmarks
from benchmarks.common import BASELINES, Benchmark, machine, medians, ratio_of, spread
from tests.unit.benchmark_fakes import FAKES

ROOT = Path(__file__).resolve().parents[2]
NAMES = benchmark_names()
# Modules of the package that benchmarks use or start, and that are none themselves.
SUPPORT = {
    "__init__",
    "__main__",
    "children",
    "cluster",
    "common",
    "contestants",
    "live_loop",
    "processes",
    "start_parts",
    "student",
    "trl_runs",
    "trl_side",
    "verifier_items",
}


@pytest.fixture(params=NAMES)
def benchmark(request: pytest.FixtureRequest) -> Benchmark:
    return load_benchmark(request.param)


def fake_record(benchmark: Benchmark, *argv: str):
    facts = machine() | {"wall_s": 1.0}
    return benchmark.record(FAKES[benchmark.name]().found, benchmark.parse(argv), facts)


def baseline(benchmark: Benchmark):
    return json.loads((BASELINES / f"{benchmark.name}.json").read_text())


def test_every_module_is_a_benchmark_or_a_part_of_one():
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert modules == SUPPORT | set(NAMES)
    assert set(NAMES) == set(FAKES)


def test_the_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]):
    assert list_benchmarks([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(len(line) > 40 for line in lines)


def test_a_baseline_of_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        list_benchmarks(["--baselines", "levenstein"])
    assert "invalid choice: 'levenstein'" in capsys.readouterr().err


def test_the_name_is_that_of_the_module(benchmark: Benchmark):
    module = importlib.import_module(f"benchmarks.{benchmark.name}")
    assert benchmark.doc == module.__doc__
    assert benchmark.summary.endswith((".", "?"))
    assert f"    python -m benchmarks.{benchmark.name}" in benchmark.doc


def test_a_report_prints_the_table_and_ends_with_the_record(
    benchmark: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    fake, path = FAKES[benchmark.name](), tmp_path / "record.json"
    arguments = benchmark.parse(["--json", str(path)])
    benchmark.report(fake.found, arguments, machine() | {"wall_s": 1.0})
    *table, last = capsys.readouterr().out.splitlines()
    record = json.loads(last)
    assert fake.shown in "\n".join(table)
    assert record["ratio"] == fake.ratio
    assert record["benchmark"] == benchmark.name
    assert record["date"] == machine()["date"]
    assert json.loads(path.read_text()) == record
    assert "json" not in record["settings"]


def test_a_figure_is_written_where_there_is_one(benchmark: Benchmark, tmp_path: Path):
    if benchmark.draw is None:
        with pytest.raises(SystemExit):
            benchmark.parse(["--plot", "a.svg"])
        return
    path = tmp_path / "figure.svg"
    benchmark.draw(path, fake_record(benchmark))
    assert path.read_text().count("<path") > 5


def test_help_names_every_option_of_the_docstring(
    benchmark: Benchmark, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        benchmark.parse(["--help"])
    assert ended.value.code == 0
    options = capsys.readouterr().out.partition("options:")[2]
    named = set(re.findall(r"(?<!-)--[a-z][a-z-]+", benchmark.doc))
    assert {"--quick", "--json"} <= set(re.findall(r"--[a-z-]+", options))
    assert {name for name in named if name not in options} == set()


def test_quick_changes_defaults_and_nothing_that_was_given(benchmark: Benchmark):
    usual, quick = vars(benchmark.parse([])), vars(benchmark.parse(["--quick"]))
    assert benchmark.quick
    assert {name: quick[name] for name in benchmark.quick} == dict(benchmark.quick)
    assert {name for name in usual if usual[name] != quick[name]} == {"quick", *benchmark.quick}


def test_given_options_win_over_quick():
    benchmark = load_benchmark("utilization")
    arguments = benchmark.parse(["--steps", "30", "rl.max_lag=2", "--quick"])
    assert (arguments.steps, arguments.rounds) == (30, 1)
    assert arguments.overrides == ["rl.max_lag=2"]


def test_too_few_steps_are_refused_before_anything_starts():
    benchmark = load_benchmark("rl_loop")
    with pytest.raises(SystemExit, match="--steps 5: at least 7, since the first 5 are skipped"):
        benchmark.measure(benchmark.parse(["--steps", "5"]))


def test_a_benchmark_without_a_configuration_takes_no_overrides():
    with pytest.raises(SystemExit):
        load_benchmark("levenshtein").parse(["rl.max_lag=2"])


def test_every_baseline_belongs_to_a_benchmark():
    assert sorted(path.stem for path in BASELINES.glob("*.json")) == NAMES


def test_a_baseline_has_the_fields_that_are_written_today(benchmark: Benchmark):
    record, today = baseline(benchmark), fake_record(benchmark)
    assert record["benchmark"] == benchmark.name
    assert list(record) == list(today)
    assert list(record["settings"]) == list(today["settings"])
    assert record["target"] == benchmark.target


def test_a_baseline_has_date_hardware_and_ratio_of_a_whole_measurement(benchmark: Benchmark):
    record = baseline(benchmark)
    assert date(2026, 1, 1) <= date.fromisoformat(record["date"])
    assert record["processor"]
    assert record["cpus"] >= 1
    assert record["ratio"] > 0
    assert not record["settings"]["quick"]


def test_the_table_of_a_baseline_can_be_printed(benchmark: Benchmark):
    assert benchmark.render(baseline(benchmark)).strip()


def test_the_documentation_names_every_benchmark():
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {name for path in texts for name in re.findall(r"^\| `(\w+)`", path.read_text(), re.M)}
    assert set(NAMES) - named == set()


def test_medians_and_ratios_are_taken_over_rounds():
    assert medians([{"a": 1.0}, {"a": 5.0}, {"a": 2.0}]) == {"a": 2.0}
    assert ratio_of([2.0, 9.0, 4.0], [1.0, 1.0, 4.0]) == 2.0
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_the_tables_of_the_scaling_page_are_those_of_the_baseline():
    page, record = (ROOT / "docs" / "scaling.md").read_text(), baseline(load_benchmark("scaling"))
    for row in record["growing_batch"] + record["fixed_batch"]:
        split = f"{row['rollout']}, {row['learner']}, {row['reference']}"
        cell = f"{row['efficiency']:.2f} / {row['of_ideal']:.2f}"
        lines = [line for line in page.splitlines() if f"| {row['gpus']:,} ({split}) |" in line]
        assert len(lines) == 2
        assert any(f"| {cell} |" in line for line in lines), (row["gpus"], row["max_lag"], cell)
