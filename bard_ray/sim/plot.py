"""The curves of the scaling study as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bard_ray.plotting import SERIES, add_legend, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Curve = Sequence[tuple[float, float]]
Panel = tuple[str, str, Mapping[str, Curve]]


def draw_scaling(path: Path, panels: Sequence[Panel]) -> None:
    """Throughput per GPU, one panel for each way of scaling, all on one axis from 0.

    Args:
        path: file to write, in the format that its ending names.
        panels: title, label of the x axis, and name to (x, share of the ideal) points. A name has
            the same color in every panel; x is logarithmic.
    """
    save_figure(path, lambda canvas: _draw(canvas, panels), (4.6 * len(panels), 4.2))


def _draw(canvas: Canvas, panels: Sequence[Panel]) -> None:
    names = list(dict.fromkeys(name for _, _, curves in panels for name in curves))
    row = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, x_label, curves) in zip(row, panels, strict=True):
        for name, curve in curves.items():
            xs, ys = zip(*curve, strict=True)
            color = SERIES[names.index(name) % len(SERIES)]
            axes.plot(xs, ys, marker="o", color=color, label=name)
        _label(axes, title, x_label)
    row[0].set_ylabel("samples/s per GPU, share of the ideal")
    row[0].set_ylim(bottom=0)
    add_legend(canvas, columns=6)


def _label(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    ticks = [2**k for k in range(11) if low <= 2**k <= high]
    axes.set_xticks(ticks, [str(x) for x in ticks])
    axes.minorticks_off()
