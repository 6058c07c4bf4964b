"""How the figures of this project look, and how one becomes a file or part of a page.

Figures are drawn in the light palette. On a page every color of that palette becomes a CSS
variable, so that one figure serves light and dark pages. Text stays text: it can be searched, and a
page sets it in its own font. matplotlib is imported inside functions: few programs draw.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Draw = Callable[["Canvas"], None]

PANEL = (5.8, 3.6)  # inches: one panel at the width of half a page
DASHED = (0, (4, 3))


@dataclass(frozen=True, slots=True)
class Palette:
    """Colors of one scheme: `ink` and `soft` for text, `card` behind figures, `series` for data."""

    page: str
    card: str
    ink: str
    soft: str
    line: str
    grid: str
    series: tuple[str, ...]

    def variables(self) -> dict[str, str]:
        """Colors by the names of their CSS variables."""
        named = {
            "--page": self.page,
            "--card": self.card,
            "--ink": self.ink,
            "--soft": self.soft,
            "--line": self.line,
            "--grid": self.grid,
        }
        return named | {f"--series-{i}": color for i, color in enumerate(self.series, start=1)}


# The colors of one palette differ from each other: that is how they are found in a drawing.
LIGHT = Palette(
    page="#f6f5f1",
    card="#ffffff",
    ink="#1d2530",
    soft="#5c6672",
    line="#dcdad3",
    grid="#e3e2dc",
    series=("#1f5fbf", "#d9730d", "#6b7480", "#b83280", "#2a8a6a", "#8a6d1a"),
)
DARK = Palette(
    page="#14181e",
    card="#1c222b",
    ink="#e6e9ee",
    soft="#9aa5b3",
    line="#323b48",
    grid="#303844",
    series=("#7fb0ff", "#ffa657", "#a3adba", "#f288c0", "#63cfa8", "#d9bd5f"),
)
INK, SOFT, GRID, CARD, SERIES = LIGHT.ink, LIGHT.soft, LIGHT.grid, LIGHT.card, LIGHT.series


def one_panel(draw: Callable[[Axes], None]) -> Draw:
    """A figure of one panel, with a legend above it where there are several series."""

    def body(canvas: Canvas) -> None:
        draw(canvas.add_subplot())
        add_legend(canvas)

    return body


def add_legend(canvas: Canvas, columns: int = 4) -> None:
    """One legend above all panels: an entry for each name; none for a single one."""
    entries = {
        text: handle
        for axes in canvas.axes
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if len(entries) > 1:
        canvas.legend(
            list(entries.values()),
            list(entries),
            frameon=False,
            loc="outside upper left",
            ncols=columns,
        )


def save_figure(path: Path, draw: Draw, size: tuple[float, float] = PANEL) -> None:
    """Write a figure in the format that the ending of `path` names.

    The same data gives the same file.
    """
    suffix = path.suffix.removeprefix(".")
    content = io.BytesIO()
    _draw(path.name, draw, size, content, suffix)
    path.write_bytes(content.getvalue())


def inline_svg(key: str, draw: Draw, size: tuple[float, float] = PANEL) -> str:
    """A figure as an `<svg>` element for a page that defines the CSS variables of a palette.

    The same data gives the same text. Identifiers begin with `key`, so that several figures can
    stand on one page.
    """
    content = io.BytesIO()
    _draw(key, draw, size, content, "svg", background="none")
    return _for_page(key, content.getvalue().decode())


def _draw(
    salt: str,
    draw: Draw,
    size: tuple[float, float],
    target: io.BytesIO,
    suffix: str,
    background: str = CARD,
) -> None:
    """Draw without pyplot, which keeps global state and may look for a display."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_style(), "svg.hashsalt": salt}):
        canvas = Figure(figsize=size, layout="constrained", facecolor=background)
        draw(canvas)
        metadata = {"Date": None} if suffix == "svg" else None
        canvas.savefig(target, format=suffix, metadata=metadata, dpi=150)


def _style() -> Mapping[str, object]:
    return {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a dollar sign in a name begins no formula
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        "font.size": 10,
        "text.color": INK,
        "axes.facecolor": "none",
        "axes.edgecolor": GRID,
        "axes.labelcolor": SOFT,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
        "legend.handlelength": 1.6,
        "legend.columnspacing": 1.4,
    }


def _for_page(key: str, svg: str) -> str:
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
    variables = {color: f"var({name})" for name, color in LIGHT.variables().items()}
    return re.sub("|".join(variables), lambda match: variables[match.group()], svg)
