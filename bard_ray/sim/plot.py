"""The curves of the scaling study as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Sequence[tuple[float, float]]
COLOURS = ("#1f5fbf", "#d9730d", "#6b7480", "#b83280", "#2a8a6a", "#8a6d1a")
INK, GRID = "#1d2530", "#dcdad3"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
}


def draw_scaling(
    path: Path, panels: Sequence[tuple[str, Mapping[str, Curve]]], ratio: Mapping[str, Curve]
) -> None:
    """Efficiency over GPUs, one panel a way of scaling, and throughput over rollout : learner.

    Args:
        path: file to write; its ending says in which format.
        panels: title, and name to (GPUs, efficiency) points.
        ratio: name to (rollout GPUs per learner GPU, throughput relative to the best) points.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * (len(panels) + 1), 4.2), layout="constrained")
        axes = figure.subplots(1, len(panels) + 1)
        for ax, (title, curves) in zip(axes, panels, strict=False):
            _curves(ax, curves)
            ax.set_xscale("log", base=2)
            ticks = sorted({x for curve in curves.values() for x, _ in curve})
            ax.set_xticks(ticks, [f"{int(x)}" for x in ticks])
            ax.minorticks_off()
            _label(ax, title, "GPUs", "samples/s per GPU, relative to 8 GPUs")
        _curves(axes[-1], ratio)
        axes[-1].set_xscale("log", base=2)
        ticks = [1, 2, 4, 8, 16, 32]
        axes[-1].set_xticks(ticks, [str(x) for x in ticks])
        axes[-1].minorticks_off()
        _label(
            axes[-1], "Split of the GPUs", "rollout GPUs per learner GPU", "relative to the best"
        )
        figure.savefig(path, dpi=120)


def _curves(ax: Axes, curves: Mapping[str, Curve]) -> None:
    for i, (name, curve) in enumerate(curves.items()):
        xs, ys = zip(*curve, strict=True)
        ax.plot(xs, ys, marker="o", color=COLOURS[i % len(COLOURS)], label=name)
    ax.legend(frameon=False, fontsize=9)


def _label(ax: Axes, title: str, x_label: str, y_label: str) -> None:
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.set_ylim(bottom=0)
