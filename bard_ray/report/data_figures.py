"""Figures of a corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bard_ray.plotting import CARD, DASHED, INK, SERIES
from bard_ray.report.budget_axis import BudgetAxis
from bard_ray.report.data_facts import PASS_RATE_BINS, DataReport, Diversity, histogram
from bard_ray.report.figure import Figure, label_axes
from bard_ray.report.text import number, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def make_data_figures(report: DataReport) -> list[Figure]:
    """Every figure for which there is data, in reading order."""
    makers: list[tuple[bool, Callable[[DataReport], Figure]]] = [
        (any(report.lengths.values()), lengths_figure),
        (any(b.requested for b in report.acceptance.budgets.values()), acceptance_figure),
        (bool(report.pass_rates), difficulty_figure),
        (report.diversity is not None, diversity_figure),
        (report.choice is not None, choice_figure),
    ]
    return [make(report) for wanted, make in makers if wanted]


def lengths_figure(report: DataReport) -> Figure:
    """Thinking lengths at each budget: median, quartiles, 10th to 90th percentile."""
    lengths = {label: found for label, found in report.lengths.items() if found}
    axis = BudgetAxis.of(lengths)
    places = [axis.place(label) for label in lengths]
    p10, p25, p50, p75, p90 = (
        [float(np.percentile(found, p)) for found in lengths.values()] for p in (10, 25, 50, 75, 90)
    )

    def draw(axes: Axes) -> None:
        axes.vlines(places, p10, p90, color=SERIES[0], linewidth=1, alpha=0.6)
        axes.vlines(places, p25, p75, color=SERIES[0], linewidth=6, alpha=0.5)
        axes.plot(places, p50, "o", color=SERIES[0], label="rows", gid="medians")
        axis.draw_diagonal(axes)
        axis.draw(axes, "budget, tokens", "thinking tokens")

    medians = ", ".join(f"{b}: {number(m, 0)}" for b, m in zip(lengths, p50, strict=True))
    caption = "Rows at each budget: median, quartiles (thick), 10th to 90th percentile (thin)."
    alt = f"Median thinking length by budget. {medians}."
    return Figure.drawn("lengths", "Lengths at each budget", caption, alt, draw)


def acceptance_figure(report: DataReport) -> Figure:
    """Share of the compressed chains that were accepted, by budget."""
    tried = {str(b): row for b, row in sorted(report.acceptance.budgets.items()) if row.requested}
    axis = BudgetAxis.of(tried)
    rates = [row.accepted / row.requested for row in tried.values()]

    def draw(axes: Axes) -> None:
        axes.plot([axis.place(b) for b in tried], rates, color=SERIES[0], marker="o")
        axes.set_ylim(0, 1.02)
        axis.draw(axes, "budget, tokens", "accepted")

    rates_in_words = ", ".join(f"{b}: {share(rate)}" for b, rate in zip(tried, rates, strict=True))
    caption = "Share of attempts at a budget that gave an accepted chain."
    alt = f"Accepted share by budget. {rates_in_words}."
    return Figure.drawn("acceptance", "Acceptance at each budget", caption, alt, draw)


def difficulty_figure(report: DataReport) -> Figure:
    """Pass rates of the questions."""
    from matplotlib.ticker import MaxNLocator

    counts = histogram(report.pass_rates)
    edges = np.linspace(0, 1, PASS_RATE_BINS + 1)

    def draw(axes: Axes) -> None:
        axes.bar(edges[:-1], counts, width=0.095, align="edge", color=SERIES[0])
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        label_axes(axes, "share of the student's samples that are correct", "questions")

    mean = sum(report.pass_rates) / len(report.pass_rates)
    caption = "How often the student solves a question before training."
    alt = f"Pass rates of {len(report.pass_rates):,} questions, mean {share(mean)}."
    return Figure.drawn("difficulty", "Difficulty", caption, alt, draw)


def diversity_figure(report: DataReport) -> Figure:
    """Distance of the chosen chains of each question against that of random chains."""
    found = report.diversity or Diversity((), ())
    top = 1.05 * max([*found.chosen, *found.random, 0.01])

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=INK, linestyle=DASHED, linewidth=1)
        axes.plot(found.random, found.chosen, marker="o", linestyle="none", color=SERIES[0])
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        label_axes(axes, "distance of random chains", "distance of chosen chains")

    chosen, random = float(np.mean(found.chosen)), float(np.mean(found.random))
    caption = (
        "Mean edit distance between the chains of a question as a share of the longer chain; one"
        " point for each question."
    )
    alt = f"Mean distance of chosen chains {share(chosen)}, of random chains {share(random)}."
    return Figure.drawn("diversity", "Diversity of chains", caption, alt, draw)


def choice_figure(report: DataReport) -> Figure:
    """Score of every candidate's student, with one standard error."""
    tried = [c for c in report.choice.candidates if c.score is not None] if report.choice else []
    names, scores = [c.name for c in tried], [c.score or 0.0 for c in tried]
    errors = [c.stderr or 0.0 for c in tried]
    places = range(len(tried))

    def draw(axes: Axes) -> None:
        axes.errorbar(places, scores, yerr=errors, color=SERIES[0], fmt="o", capsize=4)
        axes.plot(places, scores, color=CARD, marker="o", markersize=2, linestyle="none")
        axes.set_xticks(places, [name[:24] for name in names])
        axes.set_xlim(-0.5, len(tried) - 0.5)
        axes.set_ylim(0, 1.02)
        label_axes(axes, "", "correct and within the budget")

    scores_in_words = ", ".join(
        f"{n} {share(s)} (standard error {number(e, 3)})"
        for n, s, e in zip(names, scores, errors, strict=True)
    )
    caption = "Score of the student briefly trained on each teacher; one standard error."
    alt = f"Scores of the smoke test: {scores_in_words}."
    return Figure.drawn("choice", "Teachers in the smoke test", caption, alt, draw)
