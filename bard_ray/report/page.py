"""Self-contained HTML pages, without scripts or external requests.

A page is a list of sections, a section a list of blocks, and every kind of block is a macro of
`templates/blocks.html.j2`. Blocks hold plain text. Text from models and data is untrusted: the
templates truncate it, strip control characters and escape it, and the page's content policy allows
only its own style sheet.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_eval_context, select_autoescape
from jinja2.nodes import EvalContext

from bard_ray.plotting import DARK, LIGHT
from bard_ray.report.figure import Figure
from bard_ray.report.text import cut, visible


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph of small text."""

    text: str
    kind: ClassVar[str] = "note"


@dataclass(frozen=True, slots=True)
class Card:
    """One headline number."""

    what: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cards:
    """Headline numbers in a row."""

    cards: Sequence[Card]
    kind: ClassVar[str] = "cards"


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures in a row."""

    figures: Sequence[Figure]
    kind: ClassVar[str] = "figures"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, the heading above it, and whether it holds text."""

    title: str
    group: str = ""
    left: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A cell with a bar over this share of its width."""

    share: float


@dataclass(frozen=True, slots=True)
class Table:
    """A table. The first cell of a row is its heading; the last cell of a short row spans the rest.

    Attributes:
        name: description for screen readers.
        columns: columns from left to right.
        rows: cells of each row.
        marked: headings of the highlighted rows.
    """

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Bar]]
    marked: frozenset[str] = frozenset()
    kind: ClassVar[str] = "table"

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings above the columns and the columns each spans; empty without any."""
        found = [
            (group, len(list(columns)))
            for group, columns in itertools.groupby(self.columns, key=lambda c: c.group)
        ]
        return found if any(group for group, _ in found) else []

    def starts_group(self, place: int) -> bool:
        """Whether the column at `place` is the first one below its heading."""
        return bool(group := self.columns[place].group) and (
            place == 0 or self.columns[place - 1].group != group
        )


@dataclass(frozen=True, slots=True)
class Meter:
    """A progress bar with a line of text above it."""

    text: str
    share: float
    kind: ClassVar[str] = "meter"


@dataclass(frozen=True, slots=True)
class Facts:
    """Pairs of names and values."""

    facts: Mapping[str, str]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True, slots=True)
class Details:
    """Collapsed long texts, each with a heading unless it is empty."""

    summary: str
    texts: Sequence[tuple[str, str]]
    limit: int = 4000  # characters of a text that are shown
    kind: ClassVar[str] = "details"


Block = Note | Cards | Figures | Table | Meter | Facts | Details


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page; `key` is its anchor."""

    key: str
    title: str
    blocks: Sequence[Block]


def render_page(
    title: str,
    lede: str,
    sections: Sequence[Section],
    state: str = "",
    reload_s: int | None = None,
) -> str:
    """Render a whole page.

    Args:
        title: title of the page.
        lede: the line below the title.
        sections: sections in order; those without blocks are omitted.
        state: running, stopped or done, shown beside the title; empty: nothing is shown.
        reload_s: seconds after which a browser reloads the page; None: never.
    """
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            lede=lede,
            sections=[section for section in sections if section.blocks],
            state=state,
            reload_s=reload_s,
        )
    )


@cache
def environment() -> Environment:
    """Templates of this package; a missing value is an error."""
    made = Environment(
        loader=PackageLoader("bard_ray.report"),
        autoescape=select_autoescape(enabled_extensions=("html.j2", "css.j2"), default=False),
        undefined=StrictUndefined,
        finalize=_stripped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["cut"] = cut
    made.globals["schemes"] = {"light": LIGHT.variables(), "dark": DARK.variables()}
    return made


@pass_eval_context
def _stripped(context: EvalContext, value: object) -> object:
    """A value for a page: invisible characters are removed from text."""
    if context.autoescape and isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(value)
    return value


def columns_of(first: str, *numbers: str, texts: Sequence[str] = ()) -> list[Column]:
    """Columns of a plain table: a heading, then numbers, then text."""
    return [
        Column(first, left=True),
        *(Column(title) for title in numbers),
        *(Column(title, left=True) for title in texts),
    ]
