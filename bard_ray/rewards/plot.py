"""Draws every fidelity shape with its default parameters, for the documentation.

    python -m bard_ray.rewards.plot docs/figures

A shape registered in `bard_ray.rewards.shapes` gets a panel of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bard_ray.config.schema import FidelityConfig
from bard_ray.plotting import DASHED, INK, SERIES, SOFT, save_figure
from bard_ray.rewards.fidelity import SHAPES, make_fidelity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

FILE = "fidelity_shapes.svg"
COLUMNS = 3
BUDGETS = (500, 2000, 8000)  # for a shape that depends on b beyond L / b
RATIOS = np.linspace(0, 2, 201)


def curve(name: str, budget_tokens: int) -> list[float]:
    """Fidelity of the shape `name` with its defaults at L = `RATIOS` x b."""
    shape = make_fidelity(FidelityConfig(name))
    return [shape.of_length(float(ratio * budget_tokens), budget_tokens) for ratio in RATIOS]


def draw_shapes(path: Path) -> None:
    """Write one figure with a panel for each shape, in the format that the file's ending names."""
    save_figure(path, _draw, (9.6, 2.55 * _rows() + 0.3))


def _rows() -> int:
    return ceil(len(SHAPES.names()) / COLUMNS)


def _draw(canvas: Canvas) -> None:
    names = SHAPES.names()
    panels = canvas.subplots(_rows(), COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        _panel(axes, name)
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    canvas.supxlabel("thinking length over budget, L / b", color=SOFT, size=10)
    canvas.supylabel("fidelity f", color=SOFT, size=10)


def _panel(axes: Axes, name: str) -> None:
    axes.set_title(name, fontweight="bold", color=INK, pad=8)
    axes.axvline(1, color=SOFT, linewidth=1, linestyle=DASHED, zorder=1)
    values = {budget: curve(name, budget) for budget in BUDGETS}
    if np.allclose(values[BUDGETS[0]], values[BUDGETS[-1]]):
        axes.plot(RATIOS, values[BUDGETS[0]], color=SERIES[0], linewidth=2.2)
        axes.fill_between(RATIOS, values[BUDGETS[0]], color=SERIES[0], alpha=0.1, linewidth=0)
    else:
        for color, (budget, fidelity) in zip(SERIES, values.items(), strict=False):
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
