"""Figures of the training over its steps, finished or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from bard_ray.metrics import Record, series
from bard_ray.plotting import SERIES
from bard_ray.report.figure import Figure, label_axes
from bard_ray.report.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHED_OVER = 11  # points, centered
MAX_POINTS = 600  # of a line: about one a pixel
SUPERVISED = ("base", "sft_full", "sft")

Line = tuple[Sequence[float], Sequence[float]]  # steps and values


def training_figures(records: Sequence[Record]) -> list[Figure]:
    """Every figure for which there is data, in reading order."""
    figures: list[Figure] = []
    if _has(records, "rl", "rl/reward"):
        figures.append(_reward_figure(records))
    if _has(records, "rl", "rl/rel_err"):
        figures.append(_adherence_figure(records))
    if _has(records, "rl", "rl/lag_max"):
        figures.append(_lag_figure(records))
    stages = [stage for stage in SUPERVISED if _has(records, stage, "sft/loss")]
    if stages:
        figures.append(_loss_figure(records, stages))
    return figures


def _reward_figure(records: Sequence[Record]) -> Figure:
    """Reward and its two factors over the RL steps."""
    names = {"rl/reward": "reward", "rl/accuracy": "accuracy", "rl/fidelity": "fidelity"}
    caption = "Reward and its two factors. Thin: the steps; thick: their running mean."
    return _rl_figure("reward", "Reward", caption, records, names)


def _adherence_figure(records: Sequence[Record]) -> Figure:
    """Relative error, in-band and overrun shares of the trained rollouts over the RL steps."""
    names = {"rl/in_band": "in band", "rl/overrun": "overrun", "rl/rel_err": "|L-b|/b"}
    caption = "How closely the trained rollouts follow their budgets."
    return _rl_figure("adherence", "Budget adherence while training", caption, records, names)


def _lag_figure(records: Sequence[Record]) -> Figure:
    """Policy lag over the RL steps, without smoothing, which would hide the maximum."""
    mean = thinned(series(records, "rl", "rl/lag_mean"), _mean)
    largest = thinned(series(records, "rl", "rl/lag_max"), max)

    def draw(axes: Axes) -> None:
        axes.plot(*largest, color=SERIES[1], label="largest", drawstyle="steps-mid")
        axes.plot(*mean, color=SERIES[0], label="mean", marker=_marker(mean))
        axes.set_ylim(0, 1.1 * max([1.0, *largest[1], *mean[1]]))
        label_axes(axes, "step", "optimizer steps")

    caption = "Age of the weights that sampled the trained tokens, in optimizer steps."
    alt = f"Policy lag by step: at most {number(max(largest[1], default=0.0), 0)}."
    return Figure.drawn("lag", "Policy lag", caption, alt, draw)


def _loss_figure(records: Sequence[Record], stages: Sequence[str]) -> Figure:
    """Negative log-likelihood over the steps of every supervised stage."""
    found = {stage: series(records, stage, "sft/loss") for stage in stages}

    def draw(axes: Axes) -> None:
        for (stage, line), color in zip(found.items(), SERIES, strict=False):
            _draw_line(axes, line, color, stage)
        axes.set_ylim(bottom=0)
        label_axes(axes, "step", "nats per token")

    ends = ", ".join(f"{stage} is at {number(line[1][-1], 3)}" for stage, line in found.items())
    caption = "Supervised loss on the completion tokens."
    return Figure.drawn("loss", "Supervised loss", caption, f"Loss by step: {ends}.", draw)


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
        for (text, line), color in zip(found.items(), SERIES, strict=False):
            _draw_line(axes, line, color, text)
        axes.set_ylim(0, 1.02)
        label_axes(axes, "step", "")

    ends = ", ".join(
        f"{text} goes from {number(values[0], 2)} to {number(values[-1], 2)}"
        for text, (_, values) in found.items()
    )
    return Figure.drawn(key, title, caption, f"{title} by step: {ends}.", draw)


def thinned(line: Line, reduce: Callable[[Sequence[float]], float]) -> Line:
    """A line with at most `MAX_POINTS` points: neighbors are reduced to one, steps to their mean.

    Without it, a run of many thousand steps would give a page of many megabytes.
    """
    width = math.ceil(len(line[0]) / MAX_POINTS)
    if width < 2:
        return line
    steps, values = (
        [part[i : i + width] for i in range(0, len(part), width)] for part in map(list, line)
    )
    return [_mean(part) for part in steps], [reduce(part) for part in values]


def _draw_line(axes: Axes, line: Line, color: str, text: str) -> None:
    """A thin line through every point and a thick running mean."""
    steps, values = thinned(line, _mean)
    reach = SMOOTHED_OVER // 2
    smooth = [_mean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
    axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.35)
    axes.plot(steps, smooth, color=color, label=text, marker=_marker(line))


def _marker(line: Line) -> str | None:
    """A marker for a line of a single point, which is otherwise invisible."""
    return "o" if len(line[0]) == 1 else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _has(records: Sequence[Record], stage: str, name: str) -> bool:
    return bool(series(records, stage, name)[0])
