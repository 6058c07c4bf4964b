"""What every stage works with, and what a stage is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.placement.deployment import Deployment, Roles
from bard_ray.config.schema import Config
from bard_ray.errors import InvariantError
from bard_ray.metrics import MetricsWriter
from bard_ray.progress import Progress
from bard_ray.rundir import RunDirectory

if TYPE_CHECKING:
    from bard_ray.data.prompt import PromptFormat

Facts = dict[str, Any]


@dataclass
class Context:
    """What every stage works with."""

    config: Config
    run: RunDirectory
    metrics: MetricsWriter
    student: str  # model directory of the untrained student
    deployment: Deployment
    versions: int = 0  # weight versions handed out so far; each is given to one set of weights only

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

    def next_version(self) -> int:
        """A weight version nobody has used: prefix-cache entries are salted with it."""
        self.versions += 1
        return self.versions

    def prompt_format(self) -> PromptFormat:
        """Tokenizer, chat template and budget codec of the student."""
        from bard_ray.data.prompt import load_prompt_format

        return load_prompt_format(self.student, self.config.student, self.config.budget.codec)

    def weights_before(self, stage: str) -> str:
        """Model directory a stage starts from.

        `rl` goes on from `sft`, the supervised stages from `base`.
        """
        parent = {"sft": "base", "sft_full": "base", "rl": "sft"}.get(stage)
        if parent is not None and self.run.is_done(parent):
            return str(self.run.checkpoint(parent).resolve())
        return self.student if parent != "sft" else self.weights_before("sft")


@dataclass(frozen=True)
class Stage:
    """One stage: `work` returns the facts recorded with it.

    A stage that needs no actors runs before any is started, so that bad data is found before
    anything expensive.
    """

    name: str
    title: str
    unit: str
    work: Callable[[Context, Progress], Awaitable[Facts]]
    needs_roles: bool = True


def corpus_path(run: RunDirectory, name: str) -> Path:
    """File of a stage's corpus."""
    path = run.path / "data" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
