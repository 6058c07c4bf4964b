"""`report.html`: the results of a finished run, or of a run so far, as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bard_ray.evals.metrics import VariantSummary
from bard_ray.files import write_text
from bard_ray.metrics import Record, read_metrics
from bard_ray.progress import duration
from bard_ray.report.budget_figures import budget_figures
from bard_ray.report.page import (
    Bar,
    Block,
    Card,
    Cards,
    Column,
    Details,
    Facts,
    Figures,
    Note,
    Section,
    Table,
    columns_of,
    render_page,
)
from bard_ray.report.results import Results, read_results
from bard_ray.report.status import RunStatus, progress_section
from bard_ray.report.table import SUMMARY_HEADINGS, budget_cell, loss_notes, summary_row
from bard_ray.report.text import number, share
from bard_ray.report.training_figures import training_figures
from bard_ray.report.variants import before, newest, variant_of

FILE = "report.html"
RELOAD_S = 30  # of the page of a run that is not finished
CONFIG_LIMIT = 60_000  # characters
_Key = Literal["in_band", "rel_err", "overrun", "accuracy"]
_HEADLINES: tuple[tuple[str, _Key, int], ...] = (
    ("in band", "in_band", 2),
    ("|L-b| / b", "rel_err", 3),
    ("over budget", "overrun", 2),
    ("accuracy", "accuracy", 2),
)


def write_report(run_dir: str | Path, title: str) -> Path:
    """Write `report.html` from the `results.json`, `metrics.jsonl` and `config.yaml` of a run.

    Returns its path.

    Raises:
        RunStateError: `results.json` is missing or damaged.
    """
    run_dir = Path(run_dir)
    page = report_page(run_dir, title, read_results(run_dir / "results.json"))
    write_text(run_dir / FILE, page)
    return run_dir / FILE


def report_page(
    run_dir: Path, title: str, results: Results, status: RunStatus | None = None
) -> str:
    """The report as HTML; `status` is given for an unfinished run."""
    config = run_dir / "config.yaml"
    sections = [
        *([] if status is None else [progress_section(status)]),
        _results_section(results, finished=status is None),
        _budget_section(results),
        _training_section(read_metrics(run_dir / "metrics.jsonl")),
        *([_wall_time_section(results.wall_s)] if status is None else []),
        _configuration_section(results, config.read_text("utf-8") if config.exists() else ""),
    ]
    return render_page(
        title,
        f"Run {run_dir.name}",
        sections,
        state="done" if status is None else status.state,
        reload_s=RELOAD_S if status is not None and not status.problem else None,
    )


def _results_section(results: Results, *, finished: bool) -> Section:
    """Headline numbers, and one row of means for each variant."""
    if not results.variants:
        nothing = [Note("No variant was evaluated.")] if finished else []
        return Section("results", "Results", nothing)
    table = Table(
        "Means over budgets",
        columns_of(*SUMMARY_HEADINGS, texts=("what it is",)),
        [
            [*summary_row(name, summary), variant_of(name).meaning]
            for name, summary in results.variants.items()
        ],
    )
    notes = [Note(text) for text in loss_notes(results)]
    return Section("results", "Results", [*_headline(results.variants), table, *notes])


def _headline(variants: Mapping[str, VariantSummary]) -> list[Block]:
    """Four means of the final student, each with its value before training."""
    name = newest(variants) or next(iter(variants))
    earlier = before(name, variants)
    cards = []
    for what, key, digits in _HEADLINES:
        note = ""
        if earlier:
            note = f"{variant_of(earlier).label}: {share(variants[earlier][key], digits)}"
        cards.append(Card(what, share(variants[name][key], digits), note))
    text = (
        f"Means of {variant_of(name).label} over all token budgets. L: thinking length in tokens,"
        " b: budget; in band: |L-b| <= max(1, 0.1 b)."
    )
    return [Cards(cards), Note(text)]


def _budget_section(results: Results) -> Section:
    """Length and accuracy of every variant at every budget."""
    blocks: list[Block] = []
    figures = budget_figures(results)
    if figures:
        blocks.append(Figures(figures))
    if results.variants:
        blocks.append(_budget_table(results))
    if results.held_out & set(results.budgets):
        blocks.append(Note("* Training never saw this budget."))
    return Section("budgets", "By budget", blocks)


def _budget_table(results: Results) -> Table:
    columns = [Column("budget")]
    for name in results.variants:
        variant = variant_of(name)
        columns += [Column("length", variant.label)] if variant.show_length else []
        columns.append(Column("accuracy", variant.label))
    rows = [_budget_row(results, label) for label in results.budgets]
    marked = frozenset(budget_cell(label, results.held_out) for label in results.held_out)
    return Table("Length and accuracy by budget", columns, rows, marked)


def _budget_row(results: Results, label: str) -> list[str]:
    cells = [budget_cell(label, results.held_out)]
    for name, variant in results.variants.items():
        point = variant["by_budget"].get(label)
        if variant_of(name).show_length:
            cells.append(number(point["mean_length"] if point else None))
        cells.append(share(point["accuracy"] if point else None))
    return cells


def _training_section(records: Sequence[Record]) -> Section:
    figures = training_figures(records)
    return Section("training", "Training", [Figures(figures)] if figures else [])


def _wall_time_section(wall_s: Mapping[str, float]) -> Section:
    """One bar for each stage, and the total."""
    if not wall_s:
        return Section("wall-time", "Wall time", [])
    longest = max(wall_s.values()) or 1.0
    rows: list[list[str | Bar]] = [
        [stage, duration(seconds), Bar(seconds / longest)] for stage, seconds in wall_s.items()
    ]
    rows.append(["total", duration(sum(wall_s.values())), ""])
    table = Table("Wall time by stage", columns_of("stage", "time", texts=("",)), rows)
    return Section("wall-time", "Wall time", [table])


def _configuration_section(results: Results, text: str) -> Section:
    """The settings that matter for the results, and the whole resolved file, collapsed."""
    blocks: list[Block] = []
    if results.config:
        blocks.append(Facts({key: _plain(value) for key, value in results.config.items()}))
    if text:
        blocks.append(Details("config.yaml", [("", text)], CONFIG_LIMIT))
    return Section("configuration", "Configuration", blocks)


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
