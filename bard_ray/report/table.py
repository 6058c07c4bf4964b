"""The table a run ends with in the terminal.

Length and accuracy by budget, then one line of means per variant.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bard_ray.evals.metrics import VariantSummary
from bard_ray.report.results import Results


@dataclass(frozen=True, slots=True)
class VariantStyle:
    """How a variant is shown.

    Its name, one line on what it is, and whether its length says anything.
    """

    label: str
    meaning: str
    show_length: bool = True


STYLES: dict[str, VariantStyle] = {
    "base": VariantStyle("base", "the student before distillation"),
    "sft_full": VariantStyle(
        "SFT-Full", "trained on the teacher's full chains; never saw a budget"
    ),
    "sft_full_forced": VariantStyle(
        "forced", "SFT-Full, its thinking cut off at the budget", show_length=False
    ),
    "sft": VariantStyle("BARD-SFT", "after budget-aware distillation"),
    "rl": VariantStyle("BARD", "after distillation and reinforcement learning"),
}


def style_of(name: str) -> VariantStyle:
    """Style of a variant; an unknown one is shown under its own name."""
    return STYLES.get(name, VariantStyle(name, ""))


def share(value: float | None) -> str:
    """A share in three columns, `.07` or `1.0`, or a dash."""
    if value is None:
        return "-"
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0") else text


def number(value: float | None, digits: int = 1) -> str:
    """A number with that many digits after the point, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


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
    notes += [
        _loss_note(name, variant) for name, variant in results.variants.items() if _lost(variant)
    ]
    return "\n".join([*by_budget, "", *means, *(f" {note}" for note in notes)])


SUMMARY_HEADINGS = ["means over budgets", "|L-b|/b", "in band", "overrun", "accuracy"]


def summary_row(name: str, variant: VariantSummary) -> list[str]:
    """Cells of one variant under `SUMMARY_HEADINGS`."""
    err = number(variant["rel_err"], 3).removeprefix("0") if variant["rel_err"] is not None else "-"
    return [
        style_of(name).label,
        err,
        share(variant["in_band"]),
        share(variant["overrun"]),
        share(variant["accuracy"]),
    ]


def _headings(results: Results) -> tuple[list[str], list[int]]:
    """Column headings of the first block, and how many columns each variant spans."""
    cells, spans = ["budget "], []
    for name in results.variants:
        own = ["length", "accuracy"] if style_of(name).show_length else ["accuracy"]
        cells += own
        spans.append(len(own))
    return cells, spans


def _group_line(first_row: str, results: Results, spans: Sequence[int]) -> str:
    """The line above the headings: each variant's name, flush right over its columns."""
    ends = [match.end() for match in re.finditer(r"\S+", first_row)][1:]
    line = ""
    for name, end in zip(
        results.variants, (ends[i - 1] for i in itertools.accumulate(spans)), strict=True
    ):
        line += style_of(name).label.rjust(end - len(line))
    return line


def _budget_row(results: Results, label: str) -> list[str]:
    cells = [budget_cell(label, results.held_out)]
    for name, variant in results.variants.items():
        point = variant["by_budget"].get(label)
        length, accuracy = (point["mean_length"], point["accuracy"]) if point else (None, None)
        cells += (
            [number(length), share(accuracy)] if style_of(name).show_length else [share(accuracy)]
        )
    # The asterisk hangs outside the column, so that the digits stay under each other.
    return [cells[0] if cells[0].endswith("*") else f"{cells[0]} ", *cells[1:]]


def _lost(variant: VariantSummary) -> bool:
    return variant["broken"] > 0 or variant["failed"] > 0


def _loss_note(name: str, variant: VariantSummary) -> str:
    broken, failed = variant["broken"], variant["failed"]
    lost = f"{broken} answers could not be graded, {failed} groups were not sampled"
    return f"{style_of(name).label}: {lost}; they are left out"


def _align(rows: Sequence[Sequence[str]], left: int = 0) -> list[str]:
    """Rows as lines of equally wide columns.

    The first `left` flush left, the others flush right.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            c.ljust(w) if i < left else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return (" " + "  ".join(cells)).rstrip()

    return [line(row) for row in rows]
