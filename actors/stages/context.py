"""What every stage works with, and what a stage is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.placement.deployment import Deployment, Roles
from bard_ray.config.schema import Config
from bard_ray.errors import InvariantError
from bard_ray.metrics import MetricsWriter
from bard_ray.progress import Progress
from bard_ray.rl.versions import WeightVersions
from bard_ray.rundir import RunDirectory

if TYPE_CHECKING:
    from bard_ray.data.prompt import PromptFormat

Facts = dict[str, Any]

# The stage whose weights a stage starts from. Where that one did not run, it is the stage before
# that, and in the end the given student. `evaluate` measures these weights where no `sft` ran.
STARTS_FROM = {
    "distill": "base",
    "sft_full": "base",
    "sft": "base",
    "rl": "sft",
    "evaluate": "base",
}


@dataclass
class Context:
    """What every stage works with."""

    config: Config
    run: RunDirectory
    metrics: MetricsWriter
    student: str  # model directory of the untrained student
    deployment: Deployment
    versions: WeightVersions = field(default_factory=WeightVersions)

    @property
    def roles(self) -> Roles:
        """The roles, for a stage that said it needs them.

        Raises:
            InvariantError: it did not.
        """
        if self.deployment.roles is None:
            msg = "a stage asked for the roles without having said that it needs them"
            raise InvariantError(msg)
        return self.deployment.roles

    def prompt_format(self) -> PromptFormat:
        """Tokenizer, chat template and budget codec of the student."""
        from bard_ray.data.prompt import load_prompt_format

        return load_prompt_format(self.student, self.config.student, self.config.budget.codec)

    def weights_before(self, stage: str) -> str:
        """Model directory that a stage starts from; see `STARTS_FROM`."""
        parent = STARTS_FROM.get(stage)
        while parent is not None and not self.run.is_done(parent):
            parent = STARTS_FROM.get(parent)
        return self.student if parent is None else str(self.run.checkpoint(parent).resolve())


@dataclass(frozen=True)
class Stage:
    """One stage of a run, and which others it uses.

    Attributes:
        name: as in the configuration, the run directory and the reports.
        title: a few words for the terminal.
        unit: what its progress counts; empty: percent.
        work: does it; returns the facts recorded with it.
        enabled: the configuration asks for it.
        goal: its output is wanted for its own sake. Any other stage runs only for a goal.
        reads: stages whose files it reads, as far as they run.
        starts_from: the stage whose weights it starts from, as `STARTS_FROM` says; empty: none.
        needs_roles: it works with the actors. A stage that needs none runs before any is started,
            so that bad data is found before anything expensive.
    """

    name: str
    title: str
    unit: str
    work: Callable[[Context, Progress], Awaitable[Facts]]
    enabled: bool = True
    goal: bool = False
    reads: tuple[str, ...] = ()
    starts_from: str = ""
    needs_roles: bool = True


def corpus_path(run: RunDirectory, name: str) -> Path:
    """File of a stage's corpus."""
    path = run.path / "data" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
