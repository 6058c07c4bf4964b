"""The table that a run ends with in the terminal, and the cells it shares with the report."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from bard_ray.evals.metrics import VariantSummary
from bard_ray.report.results import Results
from bard_ray.report.text import number, share
from bard_ray.report.variants import variant_of

SUMMARY_HEADINGS = ("means over budgets", "|L-b|/b", "in band", "overrun", "accuracy")


def budget_cell(label: str, held_out: frozenset[str]) -> str:
    """Label of a budget; an asterisk says that training never saw it."""
    return f"{label}*" if label in held_out else label


def render_table(results: Results) -> str:
    """Both blocks as plain text: length and accuracy by budget, then the means of every variant."""
    if not results.variants:
        return " no variant was evaluated"
    headings, spans = _headings(results)
    by_budget = _align([headings, *(_budget_row(results, label) for label in results.budgets)])
    by_budget.insert(0, _group_line(by_budget[0], results, spans))
    means = _align(
        [SUMMARY_HEADINGS, *(summary_row(name, v) for name, v in results.variants.items())], left=1
    )
    notes = ["* never seen in training"] if results.held_out & set(results.budgets) else []
    notes += loss_notes(results)
    return "\n".join([*by_budget, "", *means, *(f" {note}" for note in notes)])


def summary_row(name: str, variant: VariantSummary) -> list[str]:
    """Cells of one variant under `SUMMARY_HEADINGS`."""
    return [
        variant_of(name).label,
        share(variant["rel_err"], 3),
        share(variant["in_band"]),
        share(variant["overrun"]),
        share(variant["accuracy"]),
    ]


def _headings(results: Results) -> tuple[list[str], list[int]]:
    """Column headings of the first block, and how many columns each variant spans."""
    cells, spans = ["budget "], []
    for name in results.variants:
        own = ["length", "accuracy"] if variant_of(name).show_length else ["accuracy"]
        room = len(variant_of(name).label) - sum(len(heading) + 2 for heading in own[1:])
        cells += [own[0].rjust(room), *own[1:]]
        spans.append(len(own))
    return cells, spans


def _group_line(first_row: str, results: Results, spans: Sequence[int]) -> str:
    """The line above the headings: each variant's name, flush right over its columns."""
    ends = [match.end() for match in re.finditer(r"\S+", first_row)][1:]
    line = ""
    for name, end in zip(
        results.variants, (ends[i - 1] for i in itertools.accumulate(spans)), strict=True
    ):
        line += variant_of(name).label.rjust(end - len(line))
    return line


def _budget_row(results: Results, label: str) -> list[str]:
    cells = [budget_cell(label, results.held_out)]
    for name, variant in results.variants.items():
        point = variant["by_budget"].get(label)
        length, accuracy = (point["mean_length"], point["accuracy"]) if point else (None, None)
        cells += (
            [number(length), share(accuracy)] if variant_of(name).show_length else [share(accuracy)]
        )
    # The asterisk hangs outside the column, so that the digits stay under each other.
    return [cells[0] if cells[0].endswith("*") else f"{cells[0]} ", *cells[1:]]


def loss_notes(results: Results) -> list[str]:
    """One sentence for each variant with answers that its means leave out."""
    return [
        f"{variant_of(name).label}: {variant['broken']} answers could not be graded,"
        f" {variant['failed']} groups were not sampled; they are left out"
        for name, variant in results.variants.items()
        if variant["broken"] or variant["failed"]
    ]


def _align(rows: Sequence[Sequence[str]], left: int = 0) -> list[str]:
    """Rows as lines of equally wide columns: the first `left` flush left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            c.ljust(w) if i < left else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return (" " + "  ".join(cells)).rstrip()

    return [line(row) for row in rows]
