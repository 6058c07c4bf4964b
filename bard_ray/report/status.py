"""How far a run is: what its driver says, and how a page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bard_ray.progress import duration
from bard_ray.report.page import Block, Meter, Note, Section, Table, columns_of


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run that is not finished.

    Attributes:
        as_of: time of day when this was true.
        stages: titles of all stages by name, in order.
        wall_s: seconds of the finished ones.
        running: name of the stage at work; empty between two.
        text: how far that stage is, as in the terminal.
        share: of that stage's work, in [0, 1].
        elapsed_s, left_s: its seconds so far, and those to come where that is known.
        problem: why the run stopped; empty while it runs.
    """

    as_of: str
    stages: Mapping[str, str]
    wall_s: Mapping[str, float] = field(default_factory=dict)
    running: str = ""
    text: str = ""
    share: float = 0.0
    elapsed_s: float = 0.0
    left_s: float | None = None
    problem: str = ""

    @property
    def state(self) -> str:
        """One word for the page's title."""
        return "stopped" if self.problem else "running"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def progress_section(status: RunStatus) -> Section:
    """The stage at work, and the state of every stage."""
    blocks: list[Block] = []
    if status.problem:
        blocks.append(Note(f"Stopped: {status.problem}"))
    elif status.running:
        blocks.append(Meter(f"{status.running}: {status.text}".strip(": "), status.share))
    rows = [[name, title, *_state(name, status)] for name, title in status.stages.items()]
    table = Table("Stages", columns_of("stage", texts=("what it does", "state", "time")), rows)
    return Section("progress", "Progress", [*blocks, table, Note(_freshness(status))])


def _state(name: str, status: RunStatus) -> list[str]:
    """Cells for the state of a stage and its time."""
    if name in status.wall_s:
        return ["done", duration(status.wall_s[name])]
    if name != status.running:
        return ["-", "-"]
    left = "" if status.left_s is None else f", {duration(status.left_s)} left"
    if status.problem:
        return ["stopped", duration(status.elapsed_s)]
    return ["running", f"{duration(status.elapsed_s)}{left}"]


def _freshness(status: RunStatus) -> str:
    if status.problem:
        return f"As of {status.as_of}. The same command resumes the run."
    return (
        f"As of {status.as_of}. The file is written again when a stage ends, and at most once a"
        " minute in between; the page reloads itself. If the time above stands still, nothing has"
        " changed, or the command has ended."
    )
