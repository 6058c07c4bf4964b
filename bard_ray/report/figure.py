"""A figure on a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from bard_ray.plotting import inline_svg, one_panel
from bard_ray.report.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: `svg` is an inline element, `alt` describes it in words."""

    key: str
    title: str
    caption: str
    alt: str
    svg: str

    @classmethod
    def drawn(
        cls, key: str, title: str, caption: str, alt: str, draw: Callable[[Axes], None]
    ) -> Self:
        """Draw a figure of one panel; invisible characters are removed from drawn names."""
        return cls(key, title, caption, alt, visible(inline_svg(key, one_panel(draw))))


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Label the axes and set small margins."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(x=0.02)
