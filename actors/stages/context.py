"""The definition of a stage, and the context shared by all stages."""

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

# The stage whose weights a stage starts from. If that one did not run, the lookup continues with
# its own predecessor and ends at the given student. `evaluate` uses its entry if no `sft` ran.
STARTS_FROM = {
    "distill": "base",
    "sft_full": "base",
    "sft": "base",
    "rl": "sft",
    "evaluate": "base",
}


@dataclass
class Context:
    """Configuration, run directory and deployment, shared by all stages of a run."""

    config: Config
    run: RunDirectory
    metrics: MetricsWriter
    student: str  # model directory of the untrained student
    deployment: Deployment
    versions: WeightVersions = field(default_factory=WeightVersions)

    @property
    def roles(self) -> Roles:
        """The roles of the run, for stages that declare `needs_roles`.

        Raises:
            InvariantError: the stage does not declare it.
        """
        if self.deployment.roles is None:
            msg = "a stage uses the roles without declaring `needs_roles`"
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
    """One stage of a run and its dependencies.

    Attributes:
        name: name in the configuration, the run directory and the reports.
        title: short description for the terminal.
        unit: unit of its progress; empty: percent.
        work: runs the stage and returns the facts to record.
        enabled: whether the configuration enables it.
        goal: whether its output is a result of the run. Any other stage runs only for a goal.
        reads: stages whose files it reads, if they run.
        starts_from: the stage whose weights it starts from (see `STARTS_FROM`); empty: none.
        needs_roles: whether it uses the actors. Stages that do not use them run before any actor
            starts, so that bad data is detected before anything expensive.
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
    """Path of a stage's corpus."""
    path = run.path / "data" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
