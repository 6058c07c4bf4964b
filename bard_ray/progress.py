"""Terminal output: `Console` writes lines, `Progress` updates one live line per stage.

    [3/5] sft        budget-aware SFT   #######-----  step 731/1250  loss 0.46   50 s, 35 s left

On a terminal the line is redrawn in place; elsewhere (a log file, a CI job) a plain line appears
every few seconds and at the end. A closed or broken stream silences the console and never stops a
run. Everything shown is stripped of control characters, since details may quote a model.
"""

from __future__ import annotations

import os
import shutil
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

REDRAW_S = 0.1
PLAIN_LINE_S = 15.0
BAR_CELLS = 12
NAME_CELLS = 9
TITLE_CELLS = 30
ERASE_LINE = "\r\x1b[2K"


def clean(text: str, limit: int = 2000) -> str:
    """Text that is safe on a terminal.

    The result is one line without control, format or surrogate characters, truncated to `limit`.
    """
    one_line = text[: 4 * limit].translate({ord(c): " " for c in "\t\n\v\f\r\x85\u2028\u2029"})
    return "".join(c for c in one_line if not unicodedata.category(c).startswith("C"))[:limit]


def duration(seconds: float) -> str:
    """`7 s`, `85 s`, `3 min 05 s`, `2 h 03 min`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Console:
    """Lines on one text stream, with at most one live line below them."""

    def __init__(
        self,
        stream: TextIO,
        plain_line_s: float = PLAIN_LINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap a stream; whether it is a terminal decides how progress is shown."""
        self.clock = clock
        self.plain_line_s = plain_line_s
        self._stream = stream
        self._live = ""
        self._open = True
        self.is_terminal = self._is_terminal()

    def line(self, text: str = "") -> None:
        """Write lines, above the live line if there is one.

        Control characters are removed.
        """
        erase = ERASE_LINE if self._live else ""
        shown = "\n".join(clean(part) for part in text.split("\n"))
        self._write(f"{erase}{shown}\n{self._live}")

    def live(self, text: str) -> None:
        """Redraw the live line, cut to the terminal's width. Only for terminals."""
        self._live = clean(text)[: self.columns() - 1]
        self._write(ERASE_LINE + self._live)

    def end_live(self, text: str) -> None:
        """Replace the live line, if any, by a final line."""
        self._live, erase = "", ERASE_LINE if self._live else ""
        self._write(f"{erase}{clean(text)}\n")

    def columns(self) -> int:
        """Width of the terminal in cells; 80 if unknown, at least 20."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError, AttributeError):
            columns = 0
        # A pseudo-terminal without a size reports 0.
        return max(20, columns or shutil.get_terminal_size().columns)

    def stage(self, index: int, count: int, name: str, title: str, unit: str = "step") -> Progress:
        """A live line for stage `index` of `count`; use it as a context manager."""
        return Progress(self, StageLabel(index, count, name, title, unit))

    def _is_terminal(self) -> bool:
        try:
            return self._stream.isatty() and os.environ.get("TERM") != "dumb"
        except (OSError, ValueError, AttributeError):
            return False

    def _write(self, text: str) -> None:
        if not self._open:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError, AttributeError):
            self._open = False


@dataclass(frozen=True, slots=True)
class StageLabel:
    """Labels of a stage on its progress line.

    `unit` is the counted unit (`step 3/80`); empty: percent only.
    """

    index: int
    count: int
    name: str
    title: str
    unit: str = "step"


@dataclass(frozen=True, slots=True)
class ProgressState:
    """Progress of a stage.

    Attributes:
        text: position and details, as on its line.
        share: completed share in [0, 1].
        elapsed_s: seconds since the stage began.
        left_s: estimated seconds left; None if unknown.
    """

    text: str
    share: float
    elapsed_s: float
    left_s: float | None


class Progress:
    """The progress line of a stage: bar, position, details, elapsed time and time left."""

    def __init__(self, console: Console, label: StageLabel) -> None:
        """Start the clock of the stage."""
        self._console = console
        self._label = label
        self._start_s = self._shown_s = console.clock()
        self._done = self._total = 0
        self._done_before: int | None = None
        self._first: tuple[float, int] | None = None  # when the first unit of this command ended
        self._detail = ""

    def update(self, done: int, total: int, detail: str = "") -> None:
        """Report that `done` of `total` are done; `detail` is free text such as `loss 0.46`.

        Call it before the first unit of work with the units that are already done. The rate
        excludes those and the first unit, which the start of actors and engines delays.
        """
        self._done, self._total, self._detail = done, total, detail
        now = self._console.clock()
        if self._done_before is None:
            self._done_before = done
        elif self._first is None and done > self._done_before:
            self._first = (now, done)
        if now - self._shown_s >= (
            REDRAW_S if self._console.is_terminal else self._console.plain_line_s
        ):
            self._shown_s = now
            self._show()

    def finish(self, detail: str = "") -> None:
        """Write the final line."""
        self._detail = detail or self._detail
        self._console.end_live(self._fit(f"{duration(self._elapsed_s())}"))

    def left_s(self) -> float | None:
        """Estimated seconds left at the rate since the first unit; None before the second unit."""
        if self._first is None or self._done <= self._first[1]:
            return None
        since_s, already = self._first
        unit_s = (self._console.clock() - since_s) / (self._done - already)
        return unit_s * (self._total - self._done)

    def state(self) -> ProgressState:
        """Current progress of the stage."""
        return ProgressState(self._text(), self._share(), self._elapsed_s(), self.left_s())

    def __enter__(self) -> Self:
        """Show the line."""
        if self._console.is_terminal:
            self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the final line, with `stopped` if the stage did not finish."""
        self.finish("" if kind is None else f"{self._detail}  stopped".strip())

    def _show(self) -> None:
        left = self.left_s()
        times = duration(self._elapsed_s()) + ("" if left is None else f", {duration(left)} left")
        (self._console.live if self._console.is_terminal else self._console.line)(self._fit(times))

    def _elapsed_s(self) -> float:
        return self._console.clock() - self._start_s

    def _fit(self, times: str) -> str:
        """The line; a narrow terminal drops the title first, then the bar."""
        label = self._label
        head = f"[{label.index}/{label.count}] {label.name:<{NAME_CELLS}}"
        title, tail = f"{label.title:<{TITLE_CELLS}}", self._text()
        room = self._console.columns() - 1 if self._console.is_terminal else 10_000
        for parts in (
            (head, title, self._bar(), tail, times),
            (head, self._bar(), tail, times),
            (head, tail, times),
        ):
            line = "  ".join(part for part in parts if part)
            if len(line) <= room:
                break
        return line

    def _bar(self) -> str:
        filled = int(BAR_CELLS * self._share())
        return "#" * filled + "-" * (BAR_CELLS - filled)

    def _share(self) -> float:
        return min(1.0, self._done / self._total) if self._total else 0.0

    def _text(self) -> str:
        return f"{self._position()}  {self._detail}".strip()

    def _position(self) -> str:
        if not self._total:
            return ""
        if not self._label.unit:
            return f"{100 * self._done // self._total:3d} %"
        return f"{self._label.unit} {self._done}/{self._total}"
