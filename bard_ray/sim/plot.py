"""The curves of the scaling study as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Sequence[tuple[float, float]]
COLORS = ("#1f5fbf", "#d9730d", "#6b7480", "#b83280", "#2a8a6a", "#8a6d1a")
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


def draw_scaling(path: Path, panels: Sequence[tuple[str, str, Mapping[str, Curve]]]) -> None:
    """Throughput per GPU, one panel a way of scaling, all on one axis from 0.

    Args:
        path: file to write; its ending says in which format.
        panels: title, label of the x axis, and name to (x, share of the ideal) points. A name has
            the same color in every panel; x is logarithmic.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for _, _, curves in panels for name in curves))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 4.2), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True)
        for ax, (title, x_label, curves) in zip(axes, panels, strict=True):
            for name, curve in curves.items():
                xs, ys = zip(*curve, strict=True)
                color = COLORS[names.index(name) % len(COLORS)]
                ax.plot(xs, ys, marker="o", color=color, label=name)
            _label(ax, title, x_label)
        axes[0].set_ylabel("samples/s per GPU, share of the ideal")
        axes[0].set_ylim(bottom=0)
        handles = {
            t: h for ax in axes for h, t in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            [handles[n] for n in names], names, loc="outside upper left", frameon=False, ncols=6
        )
        figure.savefig(path, dpi=120)


def _label(ax: Axes, title: str, x_label: str) -> None:
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_xlabel(x_label)
    ax.set_xscale("log", base=2)
    low, high = ax.get_xlim()
    ticks = [2**k for k in range(11) if low <= 2**k <= high]
    ax.set_xticks(ticks, [str(x) for x in ticks])
    ax.minorticks_off()
