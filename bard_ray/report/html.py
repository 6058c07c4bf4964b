"""`report.html`: what a run gave, on one page made as `bard_ray.report.page` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bard_ray.evals.metrics import VariantSummary
from bard_ray.files import write_text
from bard_ray.metrics import read_metrics
from bard_ray.progress import duration
from bard_ray.report.figures import make_figures
from bard_ray.report.page import cell, figure_section, model_text, page, table, text_of
from bard_ray.report.results import Results, read_results
from bard_ray.report.table import (
    SUMMARY_HEADINGS,
    budget_cell,
    number,
    share,
    style_of,
    summary_row,
)

CONFIG_CAP = 60_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to show.

    All of it plain text, `budget` a budget's label, `outcome` the verdict's.
    """

    variant: str
    budget: str
    question: str
    text: str
    outcome: str


def write_report(run_dir: str | Path, title: str, samples: Sequence[Sample] = ()) -> Path:
    """Write `report.html` from the `results.json`, `metrics.jsonl` and `config.yaml` of a run.

    Returns its path.

    Raises:
        RunStateError: `results.json` is missing or damaged.
    """
    run_dir = Path(run_dir)
    results = read_results(run_dir / "results.json")
    config_path = run_dir / "config.yaml"
    config_text = config_path.read_text(encoding="utf-8") if config_path.exists() else ""
    figures = make_figures(results, read_metrics(run_dir / "metrics.jsonl"))
    sections = [
        _headline(results),
        figure_section(figures),
        _means(results),
        _by_budget(results),
        _samples(samples),
        _wall_times(results),
        _configuration(results, config_text),
    ]
    path = run_dir / "report.html"
    write_text(path, page(title, f"Run {run_dir.name}", "\n".join(sections)))
    return path


def _headline(results: Results) -> str:
    """The trained student's four means, each beside what it was before RL."""
    name = next((n for n in ("rl", "sft") if n in results.variants), "")
    if not name:
        return ""
    variant, before = results.variants[name], results.variants.get("sft") if name == "rl" else None
    shown = [
        ("in band", share(variant["in_band"]), share(before["in_band"]) if before else ""),
        (
            "|L-b| / b",
            number(variant["rel_err"], 3),
            number(before["rel_err"], 3) if before else "",
        ),
        ("over budget", share(variant["overrun"]), share(before["overrun"]) if before else ""),
        ("accuracy", share(variant["accuracy"]), share(before["accuracy"]) if before else ""),
    ]
    cards = "\n".join(
        f'<div class="card"><div class="what">{what}</div><div class="value">{value}</div>'
        f'<div class="note">{f"{earlier} before RL" if earlier else "&nbsp;"}</div></div>'
        for what, value, earlier in shown
    )
    label = text_of(style_of(name).label)
    note = f"Means of {label} over all token budgets; L: thinking length in tokens, b: budget."
    section = f'<section class="cards" aria-label="Headline numbers">\n{cards}\n</section>'
    return f'{section}\n<p class="note">{note}</p>'


def _means(results: Results) -> str:
    """One row of means per variant."""
    if not results.variants:
        return "<h2>Results</h2>\n<p>No variant was evaluated.</p>"
    first, *others = SUMMARY_HEADINGS
    head = cell("th", first, scope="col", left=True) + "".join(
        cell("th", text, scope="col") for text in others
    )
    head += cell("th", "what it is", scope="col", left=True)
    rows = "\n".join(_means_row(name, variant) for name, variant in results.variants.items())
    return f"<h2>Results</h2>\n{table('Means over budgets', f'<tr>{head}</tr>', rows)}"


def _means_row(name: str, variant: VariantSummary) -> str:
    label, *values = summary_row(name, variant)
    cells = cell("th", label, scope="row", left=True) + "".join(
        cell("td", value) for value in values
    )
    return f"<tr>{cells}{cell('td', style_of(name).meaning, left=True)}</tr>"


def _by_budget(results: Results) -> str:
    """Length and accuracy of every variant at every budget."""
    if not results.variants:
        return ""
    labels = [text_of(style_of(name).label) for name in results.variants]
    names = "".join(
        f'<th scope="colgroup" colspan="2" class="start">{label}</th>' for label in labels
    )
    columns = '<th scope="col" class="start">length</th><th scope="col">accuracy</th>' * len(
        results.variants
    )
    head = f'<tr><th rowspan="2" scope="col">budget</th>{names}</tr>\n<tr>{columns}</tr>'
    rows = "\n".join(_budget_row(results, label) for label in results.budgets)
    unseen = results.held_out & set(results.budgets)
    note = '<p class="note">* Training never saw this budget.</p>' if unseen else ""
    return f"<h2>By budget</h2>\n{table('Length and accuracy by budget', head, rows)}\n{note}"


def _budget_row(results: Results, label: str) -> str:
    cells = ""
    for variant in results.variants.values():
        point = variant["by_budget"].get(label)
        length, accuracy = (
            (number(point["mean_length"]), share(point["accuracy"])) if point else ("-", "-")
        )
        cells += f'<td class="start">{length}</td><td>{accuracy}</td>'
    kind = ' class="held-out"' if label in results.held_out else ""
    shown = text_of(budget_cell(label, results.held_out))
    return f'<tr{kind}><th scope="row">{shown}</th>{cells}</tr>'


def _samples(samples: Sequence[Sample]) -> str:
    """Answers in the model's own words, folded away."""
    if not samples:
        return ""
    shown = "\n".join(
        f"<details><summary>{text_of(style_of(s.variant).label)}, budget {text_of(s.budget)}: "
        f"{text_of(s.outcome)}</summary>"
        f"<pre>{model_text(s.question)}</pre><pre>{model_text(s.text)}</pre></details>"
        for s in samples
    )
    return f"<h2>Sample answers</h2>\n{shown}"


def _wall_times(results: Results) -> str:
    if not results.wall_s:
        return ""
    longest = max(results.wall_s.values()) or 1.0
    rows = "\n".join(
        f'<tr><th scope="row" class="left">{text_of(stage)}</th><td>{duration(seconds)}</td>'
        f'<td class="wide"><span class="bar" style="width:{100 * seconds / longest:.1f}%"></span>'
        "</td></tr>"
        for stage, seconds in results.wall_s.items()
    )
    total = duration(sum(results.wall_s.values()))
    return f"<h2>Wall time: {total}</h2>\n{table('Wall time by stage', '', rows)}"


def _configuration(results: Results, config_text: str) -> str:
    """The settings that matter to a reader, and the whole resolved file folded away."""
    shown = {key: _plain(value) for key, value in results.config.items()}
    facts = "".join(
        f"<dt>{model_text(key, 100)}</dt><dd>{model_text(text, 500)}</dd>"
        for key, text in shown.items()
    )
    text = model_text(config_text, CONFIG_CAP)
    whole = f"<details><summary>config.yaml</summary><pre>{text}</pre></details>"
    body = (f"<dl>{facts}</dl>\n" if facts else "") + (whole if config_text else "")
    return f"<h2>Configuration</h2>\n{body}" if body else ""


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
