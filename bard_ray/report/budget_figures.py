"""Figures of an evaluation over its budgets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bard_ray.evals.metrics import PointSummary
from bard_ray.plotting import CARD, Draw, add_legend
from bard_ray.report.budget_axis import BudgetAxis
from bard_ray.report.figure import Figure
from bard_ray.report.results import Results
from bard_ray.report.text import number, share
from bard_ray.report.variants import color_of, variant_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

APART = 0.016  # between the points of two variants at a budget without a number

# Value of a point, and the low and high end of its spread.
Measure = Callable[[PointSummary], tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class _Curve:
    """One variant: the points with a graded rollout, by label of the budget."""

    name: str
    color: str
    points: dict[str, PointSummary]


def budget_figures(results: Results) -> list[Figure]:
    """Figures of length and accuracy by requested budget, for budgets with graded rollouts."""
    curves = _curves(results)
    free = [curve for curve in curves if variant_of(curve.name).show_length]
    figures = [_length_figure(results, free)] if free else []
    return [*figures, _accuracy_figure(results, curves)] if curves else []


def draw_results(results: Results) -> Draw:
    """Both figures side by side, for use outside the report.

    Raises:
        ValueError: no rollout was graded.
    """
    curves = _curves(results)
    free = [curve for curve in curves if variant_of(curve.name).show_length]
    if not free:
        raise ValueError("these results have no graded rollout whose length was free")

    def draw(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2)
        _draw_lengths(left, results, free)
        _draw_accuracies(right, results, curves)
        add_legend(canvas)

    return draw


def _length_figure(results: Results, curves: Sequence[_Curve]) -> Figure:
    def draw(axes: Axes) -> None:
        _draw_lengths(axes, results, curves)

    alt = "Thinking length by budget. " + _in_words(curves, lambda p: number(p["mean_length"]))
    caption = (
        "Mean thinking tokens at each requested budget; the band runs from the 10th to the 90th"
        " percentile."
    )
    return Figure.drawn("length", "Length follows the budget", caption, alt, draw)


def _accuracy_figure(results: Results, curves: Sequence[_Curve]) -> Figure:
    def draw(axes: Axes) -> None:
        _draw_accuracies(axes, results, curves)

    alt = "Accuracy by budget. " + _in_words(curves, lambda p: share(p["accuracy"]))
    caption = (
        "Correct answers at each requested budget; the band is one standard error. Overspending"
        " buys accuracy: read it beside the lengths."
    )
    return Figure.drawn("accuracy", "Accuracy at each budget", caption, alt, draw)


def _draw_lengths(axes: Axes, results: Results, curves: Sequence[_Curve]) -> None:
    """Mean thinking length, the spread from p10 to p90, and the line y = x."""
    axis = _axis(curves)
    _draw_curves(axes, axis, curves, _length, results.held_out)
    axis.draw_diagonal(axes)
    axis.draw(axes, _x_label(results, axis), "thinking tokens used")


def _draw_accuracies(axes: Axes, results: Results, curves: Sequence[_Curve]) -> None:
    """Accuracy, with one standard error."""
    axis = _axis(curves)
    _draw_curves(axes, axis, curves, _accuracy, results.held_out)
    axes.set_ylim(0, 1.02)
    axis.draw(axes, _x_label(results, axis), "accuracy")


def _curves(results: Results) -> list[_Curve]:
    names = list(results.variants)
    curves = []
    for name, variant in results.variants.items():
        labels = sorted(variant["by_budget"], key=results.budgets.index)
        points = {b: variant["by_budget"][b] for b in labels if variant["by_budget"][b]["n"] > 0}
        curves.append(_Curve(name, color_of(name, names), points))
    return [curve for curve in curves if curve.points]


def _axis(curves: Sequence[_Curve]) -> BudgetAxis:
    return BudgetAxis.of(label for curve in curves for label in curve.points)


def _length(point: PointSummary) -> tuple[float, float, float]:
    return _known(point["mean_length"]), _known(point["p10"]), _known(point["p90"])


def _accuracy(point: PointSummary) -> tuple[float, float, float]:
    mean, error = _known(point["accuracy"]), point["stderr"] or 0.0
    return mean, mean - error, mean + error


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _draw_curves(
    axes: Axes,
    axis: BudgetAxis,
    curves: Sequence[_Curve],
    measure: Measure,
    held_out: frozenset[str],
) -> None:
    """Draw every variant over the budgets; hollow points are budgets not used in training."""
    for curve in curves:
        values = {label: measure(point) for label, point in curve.points.items()}
        tokens = [label for label in values if label.isdigit()]
        places = [axis.place(label) for label in tokens]
        means, low, high = ([values[label][k] for label in tokens] for k in range(3))
        axes.fill_between(places, low, high, color=curve.color, alpha=0.13, linewidth=0)
        name = variant_of(curve.name).label
        axes.plot(places, means, color=curve.color, marker="o", label=name)
        unseen = [label for label in tokens if label in held_out]
        axes.plot(
            [axis.place(label) for label in unseen],
            [values[label][0] for label in unseen],
            "o",
            color=curve.color,
            markerfacecolor=CARD,
        )
        for label in axis.others:
            beside = [other.name for other in curves if label in other.points]
            if curve.name in beside:
                aside = APART * (beside.index(curve.name) - (len(beside) - 1) / 2)
                _draw_other(axes, axis.place(label) + aside, values[label], curve, label)


def _draw_other(
    axes: Axes, place: float, value: tuple[float, float, float], curve: _Curve, label: str
) -> None:
    """Draw the point of one variant at a budget without a number, without a line to it."""
    mean, low, high = value
    axes.vlines(place, low, high, color=curve.color, linewidth=3, alpha=0.25)
    identifier = re.sub(r"\W+", "-", f"{curve.name}-{label}")
    axes.plot([place], [mean], "o", color=curve.color, gid=identifier)


def _x_label(results: Results, axis: BudgetAxis) -> str:
    unseen = results.held_out & {str(budget) for budget in axis.tokens}
    return f"requested budget, tokens{' (hollow: never trained on)' if unseen else ''}"


def _in_words(curves: Sequence[_Curve], value: Callable[[PointSummary], str]) -> str:
    """Every curve in words, for the alternative text."""
    sentences = []
    for curve in curves:
        pairs = ", ".join(f"{label} gives {value(p)}" for label, p in curve.points.items())
        sentences.append(f"{variant_of(curve.name).label}: {pairs}.")
    return " ".join(sentences)
