"""Figures of a run as SVG text, to be set inline into a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bard_ray.evals.metrics import PointSummary
from bard_ray.metrics import Record, series
from bard_ray.report.canvas import INK, PAPER, SERIES, Figure, budget_ticks, label_axes, render
from bard_ray.report.results import Results
from bard_ray.report.table import number, share, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES_OF = {"rl": 0, "sft": 1, "sft_full": 2, "sft_full_forced": 3, "base": 4}
SMOOTHED_OVER = 11  # steps, centered


def make_figures(results: Results, records: Sequence[Record]) -> list[Figure]:
    """Every figure for which there is data, in reading order."""
    figures: list[Figure] = []
    if results.variants:
        figures += [length_figure(results), accuracy_figure(results)]
    if _has(records, "rl", "rl/reward") and _has(records, "rl", "rl/rel_err"):
        figures += [reward_figure(records), adherence_figure(records)]
    if _has(records, "rl", "rl/lag_max"):
        figures.append(lag_figure(records))
    stages = [stage for stage in ("base", "sft_full", "sft") if _has(records, stage, "sft/loss")]
    if stages:
        figures.append(loss_figure(records, stages))
    return figures


def length_figure(results: Results) -> Figure:
    """Mean thinking length over the requested budget, with the y = x line and a p10 to p90 band."""

    def draw(axes: Axes) -> None:
        for curve in _curves(results):
            if style_of(curve.name).show_length:
                band = (
                    [p["p10"] or 0.0 for p in curve.points],
                    [p["p90"] or 0.0 for p in curve.points],
                )
                _budget_curve(axes, curve, [p["mean_length"] or 0.0 for p in curve.points], band)
        budgets = _all_budgets(results)
        axes.plot(
            budgets,
            budgets,
            color=INK,
            linestyle=(0, (4, 3)),
            linewidth=1,
            label="length = budget",
            zorder=1,
        )
        axes.set_ylim(bottom=0)
        _budget_axis(axes, results, "thinking tokens used")

    alt = "Thinking length by budget. " + _spoken(results, lambda p: number(p["mean_length"]))
    caption = (
        "Mean thinking tokens at each requested budget; the band runs from the 10th to the 90th"
        " percentile."
    )
    return Figure("length", "Length follows the budget", caption, alt, render("length", draw))


def accuracy_figure(results: Results) -> Figure:
    """Accuracy over the requested budget, with one standard error."""

    def draw(axes: Axes) -> None:
        for curve in _curves(results):
            means, errors = (
                [p["accuracy"] or 0.0 for p in curve.points],
                [p["stderr"] or 0.0 for p in curve.points],
            )
            low = [m - e for m, e in zip(means, errors, strict=True)]
            high = [m + e for m, e in zip(means, errors, strict=True)]
            _budget_curve(axes, curve, means, (low, high))
        axes.set_ylim(0, 1.02)
        _budget_axis(axes, results, "accuracy")

    alt = "Accuracy by budget. " + _spoken(results, lambda p: share(p["accuracy"]))
    caption = "Right answers at each requested budget; the band is one standard error."
    caption += " Overspending buys accuracy: read it beside the lengths."
    return Figure("accuracy", "Accuracy at each budget", caption, alt, render("accuracy", draw))


def reward_figure(records: Sequence[Record]) -> Figure:
    """Reward and its two factors over the RL steps."""
    names = {"rl/reward": "reward", "rl/accuracy": "accuracy", "rl/fidelity": "fidelity"}
    caption = (
        f"Reward and its two parts. Thin: each step; thick: running mean of {SMOOTHED_OVER} steps."
    )
    return _rl_figure("reward", "Reward", caption, records, names)


def adherence_figure(records: Sequence[Record]) -> Figure:
    """Relative error, in-band and overrun shares of the trained rollouts over the RL steps."""
    names = {"rl/in_band": "in band", "rl/overrun": "overrun", "rl/rel_err": "|L-b|/b"}
    caption = "How closely the rollouts being trained on keep to their budgets."
    return _rl_figure("adherence", "Budget adherence while training", caption, records, names)


def lag_figure(records: Sequence[Record]) -> Figure:
    """Policy lag over the RL steps, as it was: a running mean would hide the largest."""
    mean, largest = series(records, "rl", "rl/lag_mean"), series(records, "rl", "rl/lag_max")

    def draw(axes: Axes) -> None:
        axes.plot(*largest, color=SERIES[1], label="largest", drawstyle="steps-mid")
        axes.plot(*mean, color=SERIES[0], label="mean")
        axes.set_ylim(0, 1.1 * max([1.0, *largest[1], *mean[1]]))
        label_axes(axes, "step", "optimizer steps")

    caption = "Age of the weights that sampled what is being trained on, in optimizer steps."
    alt = f"Policy lag by step: at most {number(max(largest[1], default=0.0), 0)}."
    return Figure("lag", "Policy lag", caption, alt, render("lag", draw))


def loss_figure(records: Sequence[Record], stages: Sequence[str]) -> Figure:
    """Negative log-likelihood over the steps of every supervised stage."""

    def draw(axes: Axes) -> None:
        for i, stage in enumerate(stages):
            _curve(axes, *series(records, stage, "sft/loss"), SERIES[i], stage)
        axes.set_ylim(bottom=0)
        label_axes(axes, "step", "nats per token")

    ends = ", ".join(
        f"{stage} ends at {number(series(records, stage, 'sft/loss')[1][-1], 3)}"
        for stage in stages
    )
    caption = "Supervised loss on the completion tokens."
    return Figure(
        "loss", "Supervised loss", caption, f"Loss by step: {ends}.", render("loss", draw)
    )


def _rl_figure(
    key: str, title: str, caption: str, records: Sequence[Record], names: Mapping[str, str]
) -> Figure:
    """Several shares over the RL steps, on an axis from 0 to 1."""
    found = {
        text: series(records, "rl", name)
        for name, text in names.items()
        if _has(records, "rl", name)
    }

    def draw(axes: Axes) -> None:
        for i, (text, (steps, values)) in enumerate(found.items()):
            _curve(axes, steps, values, SERIES[i], text)
        axes.set_ylim(0, 1.02)
        label_axes(axes, "step", "")

    ends = ", ".join(
        f"{text} goes from {number(v[0], 2)} to {number(v[-1], 2)}"
        for text, (_, v) in found.items()
    )
    return Figure(key, title, caption, f"{title} by step: {ends}.", render(key, draw))


def _curve(
    axes: Axes, steps: Sequence[int], values: Sequence[float], color: str, text: str
) -> None:
    """A thin line through every step and a thick running mean."""
    reach = SMOOTHED_OVER // 2
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    smooth = [sum(window) / len(window) for window in windows]
    axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.35)
    axes.plot(steps, smooth, color=color, label=text)


@dataclass(frozen=True, slots=True)
class _Curve:
    """One variant over its token budgets, in rising order.

    Budgets without a graded rollout are left out.
    """

    name: str
    color: str
    budgets: list[int]
    points: list[PointSummary]
    held_out: list[bool]


def _curves(results: Results) -> list[_Curve]:
    curves = []
    for name, variant in results.variants.items():
        points = {
            int(text): p
            for text, p in variant["by_budget"].items()
            if text.isdigit() and p["n"] > 0
        }
        budgets = sorted(points)
        held_out = [str(budget) in results.held_out for budget in budgets]
        curves.append(
            _Curve(name, _color(name, results), budgets, [points[b] for b in budgets], held_out)
        )
    return [curve for curve in curves if curve.budgets]


def _budget_curve(
    axes: Axes,
    curve: _Curve,
    values: Sequence[float],
    band: tuple[Sequence[float], Sequence[float]],
) -> None:
    """One variant over the budgets, with a band.

    Hollow points are budgets that training never saw.
    """
    axes.fill_between(curve.budgets, *band, color=curve.color, alpha=0.13, linewidth=0)
    axes.plot(
        curve.budgets, values, color=curve.color, marker="o", label=style_of(curve.name).label
    )
    unseen = [
        (b, v) for b, v, out in zip(curve.budgets, values, curve.held_out, strict=True) if out
    ]
    if unseen:
        axes.plot(
            *zip(*unseen, strict=True),
            color=curve.color,
            marker="o",
            markerfacecolor=PAPER,
            linestyle="none",
        )


def _color(name: str, results: Results) -> str:
    """The same variant has the same color in every figure."""
    others = [other for other in results.variants if other not in SERIES_OF]
    index = SERIES_OF[name] if name in SERIES_OF else len(SERIES_OF) + others.index(name)
    return SERIES[index % len(SERIES)]


def _spoken(results: Results, value: Callable[[PointSummary], str]) -> str:
    """Every curve in words, for the alternative text."""
    spoken = []
    for curve in _curves(results):
        pairs = (f"{b} gives {value(p)}" for b, p in zip(curve.budgets, curve.points, strict=True))
        spoken.append(f"{style_of(curve.name).label}: {', '.join(pairs)}.")
    return " ".join(spoken)


def _has(records: Sequence[Record], stage: str, name: str) -> bool:
    return bool(series(records, stage, name)[0])


def _all_budgets(results: Results) -> list[int]:
    return sorted({budget for curve in _curves(results) for budget in curve.budgets})


def _budget_axis(axes: Axes, results: Results, y_label: str) -> None:
    budgets = _all_budgets(results)
    budget_ticks(axes, budgets)
    hint = " (hollow: never trained on)" if results.held_out & {str(b) for b in budgets} else ""
    label_axes(axes, f"requested budget, tokens{hint}", y_label)
