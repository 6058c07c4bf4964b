"""Figures of a corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bard_ray.report.canvas import INK, PAPER, SERIES, Figure, budget_ticks, label_axes, render
from bard_ray.report.data_facts import PASS_RATE_BINS, DataReport, Diversity, histogram
from bard_ray.report.table import number, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def make_data_figures(report: DataReport) -> list[Figure]:
    """Every figure for which there is data, in reading order."""
    makers: list[tuple[bool, Callable[[DataReport], Figure]]] = [
        (bool(report.budgets), lengths_figure),
        (bool(report.acceptance.budgets), acceptance_figure),
        (bool(report.pass_rates), difficulty_figure),
        (report.diversity is not None, diversity_figure),
        (report.choice is not None, choice_figure),
    ]
    return [make(report) for wanted, make in makers if wanted]


def lengths_figure(report: DataReport) -> Figure:
    """Thinking lengths at each budget: median, quartiles, 10th to 90th percentile."""
    budgets = [b for b in report.budgets if report.lengths[str(b)]]
    p10, p25, p50, p75, p90 = (
        [float(np.percentile(report.lengths[str(b)], p)) for b in budgets]
        for p in (10, 25, 50, 75, 90)
    )

    def draw(axes: Axes) -> None:
        axes.vlines(budgets, p10, p90, color=SERIES[0], linewidth=1, alpha=0.6)
        axes.vlines(budgets, p25, p75, color=SERIES[0], linewidth=6, alpha=0.5)
        axes.plot(budgets, p50, color=SERIES[0], marker="o", linestyle="none", label="rows")
        axes.plot(
            budgets, budgets, color=INK, linestyle=(0, (4, 3)), linewidth=1, label="length = budget"
        )
        axes.set_ylim(bottom=0)
        budget_ticks(axes, budgets)
        label_axes(axes, "budget, tokens", "thinking tokens")

    medians = (f"{b}: {number(m, 0)}" for b, m in zip(budgets, p50, strict=True))
    caption = "Rows at each budget: median, quartiles (thick), 10th to 90th percentile (thin)."
    alt = f"Median thinking length by budget. {', '.join(medians)}."
    return Figure("lengths", "Lengths at each budget", caption, alt, render("lengths", draw))


def acceptance_figure(report: DataReport) -> Figure:
    """Share of the compressed chains that were accepted, by budget."""
    tried = {b: row for b, row in sorted(report.acceptance.budgets.items()) if row.requested}
    budgets = list(tried)
    rates = [row.accepted / row.requested for row in tried.values()]

    def draw(axes: Axes) -> None:
        axes.plot(budgets, rates, color=SERIES[0], marker="o")
        axes.set_ylim(0, 1.02)
        budget_ticks(axes, budgets)
        label_axes(axes, "budget, tokens", "accepted")

    told = ", ".join(f"{b}: {share(rate)}" for b, rate in zip(budgets, rates, strict=True))
    caption = "Share of the tries at a budget that gave a chain good enough to teach."
    alt = f"Accepted share by budget. {told}."
    return Figure(
        "acceptance", "Acceptance at each budget", caption, alt, render("acceptance", draw)
    )


def difficulty_figure(report: DataReport) -> Figure:
    """Pass rates of the questions."""
    counts = histogram(report.pass_rates)
    edges = np.linspace(0, 1, PASS_RATE_BINS + 1)

    def draw(axes: Axes) -> None:
        axes.bar(edges[:-1], counts, width=0.095, align="edge", color=SERIES[0])
        label_axes(axes, "share of the student's samples that are right", "questions")

    mean = sum(report.pass_rates) / len(report.pass_rates)
    caption = "How often the student solves a question before it is trained."
    alt = f"Pass rates of {len(report.pass_rates):,} questions, mean {share(mean)}."
    return Figure("difficulty", "Difficulty", caption, alt, render("difficulty", draw))


def diversity_figure(report: DataReport) -> Figure:
    """Distance of the chosen chains of each question over that of random ones."""
    found = report.diversity or Diversity((), ())
    top = 1.05 * max([*found.chosen, *found.random, 0.01])

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=INK, linestyle=(0, (4, 3)), linewidth=1)
        axes.plot(found.random, found.chosen, color=SERIES[0], marker="o", linestyle="none")
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        label_axes(axes, "distance of random chains", "distance of those kept")

    chosen, random = float(np.mean(found.chosen)), float(np.mean(found.random))
    caption = "Mean edit distance between the chains of a question, as a share of the longer one;"
    caption += " one point a question."
    alt = f"Mean distance of the chains kept {share(chosen)}, of random ones {share(random)}."
    return Figure("diversity", "Diversity of chains", caption, alt, render("diversity", draw))


def choice_figure(report: DataReport) -> Figure:
    """Score of every candidate's student, with one standard error."""
    tried = [c for c in report.choice.candidates if c.score is not None] if report.choice else []
    names, scores = [c.name for c in tried], [c.score or 0.0 for c in tried]
    errors = [c.stderr or 0.0 for c in tried]
    places = range(len(tried))

    def draw(axes: Axes) -> None:
        axes.errorbar(places, scores, yerr=errors, color=SERIES[0], fmt="o", capsize=4)
        axes.plot(places, scores, color=PAPER, marker="o", markersize=2, linestyle="none")
        # A dollar sign would begin a formula.
        axes.set_xticks(places, [name[:24].replace("$", r"\$") for name in names])
        axes.set_xlim(-0.5, len(tried) - 0.5)
        axes.set_ylim(0, 1.02)
        label_axes(axes, "", "right and within the budget")

    told = ", ".join(
        f"{n} {share(s)} (standard error {number(e, 3)})"
        for n, s, e in zip(names, scores, errors, strict=True)
    )
    caption = "Score of the student that learned a little from each teacher; one standard error."
    alt = f"Scores of the smoke test: {told}."
    return Figure("choice", "Teachers in the smoke test", caption, alt, render("choice", draw))
