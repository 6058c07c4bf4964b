"""Draws every fidelity shape with its default parameters, for the documentation.

    python -m bard_ray.rewards.plot docs/figures

A shape of yours in `bard_ray.rewards.shapes` gets a panel of its own. matplotlib is imported inside
functions: nothing else here needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bard_ray.config.schema import FidelityConfig
from bard_ray.rewards.fidelity import SHAPES, make_fidelity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = "fidelity_shapes.svg"
COLUMNS = 3
BUDGETS = (500, 2000, 8000)  # of a shape that depends on b beyond L / b
RATIOS = np.linspace(0, 2, 201)
INK, SOFT, GRID = "#1d2530", "#5c6672", "#e3e2dc"
SERIES = ("#1f5fbf", "#d9730d", "#b83280")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "shapes",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
}


def curve(name: str, budget_tokens: int) -> list[float]:
    """Fidelity of the shape `name` with its defaults at L = `RATIOS` x b."""
    shape = make_fidelity(FidelityConfig(name))
    return [shape.of_length(float(ratio * budget_tokens), budget_tokens) for ratio in RATIOS]


def draw_shapes(path: Path) -> None:
    """Write one figure, a panel a shape, as SVG or PNG by the name of the file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = SHAPES.names()
    rows = ceil(len(names) / COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.55 * rows + 0.3), layout="constrained", facecolor="white")
        grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            _panel(axes, name)
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        figure.supxlabel("thinking length over budget, L / b", color=SOFT, size=10)
        figure.supylabel("fidelity f", color=SOFT, size=10)
        # Without a date and with fixed identifiers, the same shapes give the same file.
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata, dpi=150)


def _panel(axes: Axes, name: str) -> None:
    axes.set_title(name, loc="left", fontweight="bold", fontsize=11, color=INK, pad=8)
    axes.axvline(1, color=SOFT, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    values = {budget: curve(name, budget) for budget in BUDGETS}
    if np.allclose(values[BUDGETS[0]], values[BUDGETS[-1]]):
        axes.plot(RATIOS, values[BUDGETS[0]], color=SERIES[0], linewidth=2.2)
        axes.fill_between(RATIOS, values[BUDGETS[0]], color=SERIES[0], alpha=0.1, linewidth=0)
    else:
        for color, (budget, fidelity) in zip(SERIES, values.items(), strict=True):
            axes.plot(RATIOS, fidelity, color=color, linewidth=2.2, label=f"b = {budget:,}")
        axes.legend(frameon=False, fontsize=8.5, loc="lower left", handlelength=1.2)
    axes.text(1.03, 1.06, "L = b", color=SOFT, size=8, va="center")
    axes.set(xlim=(-0.03, 2.03), ylim=(-0.03, 1.1))
    axes.set_xticks([0, 0.5, 1, 1.5, 2], ["0", "0.5", "1", "1.5", "2"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def main(arguments: Sequence[str]) -> int:
    """Write the figure into the directory that is named."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m bard_ray.rewards.plot DIRECTORY\n")
        return 2
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    draw_shapes(directory / FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
