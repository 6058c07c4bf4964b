"""How a figure becomes inline SVG text.

Colors are CSS variables (`--ink`, `--grid`, `--series-1` ...), so that one figure serves light and
dark pages; text stays text, so that it can be searched. matplotlib is imported inside functions:
nothing but the reports needs it.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# matplotlib needs real colors; each stands for one CSS variable and is replaced by it in the SVG
# text.
INK, GRID, PAPER = "#010101", "#020202", "#030303"
SERIES = ("#110001", "#110002", "#110003", "#110004", "#110005", "#110006")
CSS_OF = {INK: "var(--ink)", GRID: "var(--grid)", PAPER: "var(--card)"}
CSS_OF |= {color: f"var(--series-{i})" for i, color in enumerate(SERIES, start=1)}
TICKS_APART = 0.045  # least distance between two tick labels, as a share of the axis


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the report: `svg` is an inline element, `alt` says in words what it shows."""

    key: str
    title: str
    caption: str
    alt: str
    svg: str


def budget_ticks(axes: Axes, budgets: Sequence[int]) -> None:
    """Ticks at the budgets themselves; a logarithmic axis where they span more than a decade.

    Args:
        axes: whose x axis holds budgets.
        budgets: tokens, ascending.
    """
    position: Callable[[float], float] = float
    if budgets and budgets[-1] > 10 * budgets[0] > 0:
        axes.set_xscale("log", base=2)
        position = math.log
    ticks = _thinned(budgets, position)
    axes.set_xticks(ticks, [str(b) for b in ticks])
    axes.minorticks_off()


def _thinned(budgets: Sequence[int], position: Callable[[float], float]) -> list[int]:
    """Budgets that are far enough apart for their labels not to touch."""
    kept: list[int] = []
    span = position(budgets[-1]) - position(budgets[0]) if budgets else 0.0
    for budget in budgets:
        if not kept or position(budget) - position(kept[-1]) >= TICKS_APART * span:
            kept.append(budget)
    return kept


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Names of the axes, and a legend above where there is more than one series."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(x=0.02)
    handles, texts = axes.get_legend_handles_labels()
    if len(texts) > 1 and axes.figure is not None:
        axes.figure.legend(handles, texts, frameon=False, loc="outside upper left", ncols=4)


_STYLE = {
    "svg.fonttype": "none",
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
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def _canvas(draw: Callable[[Axes], None]) -> Canvas:
    """A figure without pyplot: no global state, no display."""
    from matplotlib.figure import Figure as MatplotlibFigure

    canvas = MatplotlibFigure(figsize=(6.4, 3.9), layout="constrained")
    draw(canvas.add_subplot())
    return canvas


def render(key: str, draw: Callable[[Axes], None]) -> str:
    """The figure as an inline `<svg>` element with CSS colors.

    The same data gives the same text.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": key}):
        _canvas(draw).savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(key, buffer.getvalue())


def _inline(key: str, svg: str) -> str:
    """Strip what only a file of its own needs, and make identifiers unique on the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)  # HTML knows both
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)  # the page's font
    svg = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{key}-", svg)
    # Without a width of its own the figure fills its column; the text beside it is its alternative.
    svg = re.sub(
        r'<svg width="[^"]*" height="[^"]*"',
        '<svg aria-hidden="true" focusable="false"',
        svg,
        count=1,
    )
    return re.sub("|".join(CSS_OF), lambda match: CSS_OF[match.group()], svg)
