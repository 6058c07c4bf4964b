"""The horizontal axis of figures over budgets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from bard_ray.plotting import CARD, DASHED, INK, SOFT
from bard_ray.report.figure import label_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG_ABOVE = 10  # largest over smallest budget
TICKS_APART = 0.05  # minimum distance between two tick labels
GAP = 0.14  # from the largest token budget to the first budget without a number of tokens
BREAK = 0.03  # width of the break in the axis
MARGIN = 0.03


@dataclass(frozen=True, slots=True)
class BudgetAxis:
    """Positions of budgets on the axis.

    Token budgets are to scale between 0 and 1, on a logarithmic scale if they span more than a
    decade. Budgets without a number of tokens, such as `none`, follow after a break in the axis.

    Attributes:
        tokens: token budgets, ascending.
        others: labels of the other budgets.
    """

    tokens: tuple[int, ...]
    others: tuple[str, ...]

    @classmethod
    def of(cls, labels: Iterable[str]) -> Self:
        """The axis for budgets with these labels."""
        found = set(labels)
        tokens = sorted(int(label) for label in found if label.isdigit())
        return cls(tuple(tokens), tuple(sorted(label for label in found if not label.isdigit())))

    @property
    def logarithmic(self) -> bool:
        """Whether the scale is logarithmic."""
        return bool(self.tokens) and self.tokens[-1] > LOG_ABOVE * self.tokens[0] > 0

    def place(self, label: str) -> float:
        """Horizontal position of a budget of this axis."""
        if not label.isdigit():
            first = self._end + GAP if self.tokens else 0.0
            return first + GAP * self.others.index(label)
        low, high, here = (self._scale(b) for b in (self.tokens[0], self.tokens[-1], int(label)))
        return (here - low) / (high - low) if high > low else 0.0

    def draw_diagonal(self, axes: Axes) -> None:
        """Draw the line length = budget; the vertical axis gets the scale that makes it straight.

        Call it after drawing the data, so that the axis includes short lengths.
        """
        if self.tokens:
            ends = (self.tokens[0], self.tokens[-1])
            places = [self.place(str(end)) for end in ends]
            axes.plot(
                places,
                ends,
                color=INK,
                linestyle=DASHED,
                linewidth=1,
                label="length = budget",
                zorder=1,
            )
        if not self.logarithmic:
            axes.set_ylim(bottom=0)
            return
        axes.set_yscale("log", base=2, nonpositive="clip")
        axes.set_ylim(bottom=max(0.5, min(self.tokens[0], axes.dataLim.minposy) / 1.5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")

    def draw(self, axes: Axes, x_label: str, y_label: str) -> None:
        """Draw ticks, labels, and a break before the budgets without a number."""
        ticks = [str(b) for b in self._labeled()] + list(self.others)
        axes.set_xticks([self.place(label) for label in ticks], ticks)
        axes.minorticks_off()
        label_axes(axes, x_label, y_label)
        last = self.place(self.others[-1]) if self.others else self._end
        axes.set_xlim(-MARGIN, last + 2 * MARGIN)
        if self.tokens and self.others:
            self._break(axes, self._end + GAP / 2)

    @property
    def _end(self) -> float:
        """Position of the largest token budget."""
        return 1.0 if len(self.tokens) > 1 else 0.0

    def _scale(self, budget: int) -> float:
        return math.log(budget) if self.logarithmic else float(budget)

    def _labeled(self) -> list[int]:
        """Token budgets that are far enough apart for their labels not to overlap."""
        kept: list[int] = []
        for budget in self.tokens:
            if not kept or self.place(str(budget)) - self.place(str(kept[-1])) >= TICKS_APART:
                kept.append(budget)
        return kept

    def _break(self, axes: Axes, center: float) -> None:
        """Remove grid and axis in the gap, and mark its ends with slanted lines."""
        bounds = (center - BREAK / 2, center + BREAK / 2)
        whole = axes.get_xaxis_transform()  # x in data, y from 0 at the bottom to 1 at the top
        gap = axes.fill_between(
            bounds, -0.01, 1, color=CARD, linewidth=0, transform=whole, clip_on=False, zorder=2.6
        )
        gap.set_gid("break")
        for x in bounds:
            (mark,) = axes.plot([x - 0.006, x + 0.006], [-0.02, 0.02], color=SOFT, linewidth=1)
            mark.set(transform=whole, clip_on=False, zorder=2.7)
