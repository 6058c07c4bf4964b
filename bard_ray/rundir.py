"""The directory of a run: its files, its finished stages, and the rules for resuming it.

    config.yaml  metrics.jsonl  tensorboard/  data/  checkpoints/  evals/  export/  logs/
    results.json  report.html
    state.json   {"stages": {name: {"wall_s": seconds, "facts": {...}}}}: the finished stages

A command resumes only with the settings used by the finished stages and by an interrupted stage;
other settings are rejected. Settings of stages still to come may change, and so may those of the
infrastructure: the sections `rollout`, `learner`, `reference`, `cluster` and `verifier` (except
`verifier.kinds`, which decides grades), and `run.verbose`. Some of them change numbers:
`learner.precision`, `learner.attention`, `rollout.dtype`. A checkpoint inside the RL stage needs
the ranks, the ZeRO stage and the precision that it was saved with. `rl.steps` may change where
`run.goal` is `student`:

- while the RL stage is unfinished, it ends at the new number of steps, or at its latest checkpoint
  if that is further;
- once it is done, a larger number resumes from its last checkpoint, if there is one
  (`rl.checkpoint_every`), and the trained student is exported and evaluated again. A smaller number
  is rejected, because finished training cannot be undone.

The learning rate of the remaining steps is that of a schedule over the new number of steps.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from bard_ray.config.load import from_yaml, to_yaml
from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError, RunStateError
from bard_ray.files import write_json, write_text

# Configuration sections that each stage's output depends on, besides those of the stages whose
# output it uses.
SECTIONS = {
    "data": ("data",),
    "base": ("student", "base"),
    "distill": ("student", "data", "budget", "distill"),
    "sft_full": ("student", "sft_full"),
    "sft": ("student", "sft"),
    "rl": ("student", "data", "budget", "rl"),
    "evaluate": ("student", "data", "budget", "evaluate"),
}
# Fields of other sections that a stage's output depends on: the size of its corpus, the source of
# its initial weights, the variants it evaluates, how answers are graded.
FIELDS = {
    "data": ["base.enabled", "base.rows"],
    "distill": ["sft_full.rows", "verifier.kinds"],
    "rl": ["sft.enabled", "verifier.kinds"],
    "evaluate": [*(f"{s}.enabled" for s in ("sft_full", "sft", "rl")), "verifier.kinds"],
}
# Fields among these that may change between two commands.
NOT_FINGERPRINTED = ("distill.workers", "distill.store", "rl.steps", "rl.checkpoint_every")
RL_STATE = "rl-state"  # checkpoint inside the RL stage


class RunDirectory:
    """An open run; at most one process can have it open at a time."""

    def __init__(self, path: Path, lock: TextIO, stages: dict[str, dict[str, Any]]) -> None:
        self.path, self._lock, self._stages = path, lock, stages

    @classmethod
    def open(cls, config: Config) -> RunDirectory:
        """Create the directory of `run.name`, or open the one of an earlier command to resume.

        Raises:
            RunStateError: another process has it open, or its stages used different settings.
            ConfigError: the initial model is inside the directory.
        """
        path = Path(config.run.dir) / config.run.name
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        try:
            _require_outside(path, config.student.path)
            if config.run.fresh:
                _empty(path)
            stages = _read_stages(path)
            if stages:
                _require_same(path, config, stages)
                if config.run.goal == "student":  # no other goal trains, so none reopens RL
                    _settle_rl_steps(path, config.rl.steps, stages)
            else:  # weights of an attempt that ended before its first stage finished
                shutil.rmtree(path / "checkpoints", ignore_errors=True)
            write_text(path / "config.yaml", to_yaml(config))
        except BaseException:
            lock.close()
            raise
        return cls(path, lock, stages)

    def is_done(self, stage: str) -> bool:
        """Whether an earlier command, or this one, finished the stage."""
        return stage in self._stages

    def facts(self, stage: str) -> Mapping[str, Any]:
        """Facts recorded by a finished stage."""
        facts: Mapping[str, Any] = self._stages[stage]["facts"]
        return facts

    def finish(self, stage: str, wall_s: float, facts: Mapping[str, Any]) -> None:
        """Record a stage as finished; later commands skip it."""
        self._stages[stage] = {"wall_s": round(wall_s, 3), "facts": dict(facts)}
        write_json(self.path / "state.json", {"stages": self._stages})

    @property
    def wall_s(self) -> dict[str, float]:
        """Wall seconds of every finished stage, in order."""
        return {name: float(stage["wall_s"]) for name, stage in self._stages.items()}

    def checkpoint(self, name: str) -> Path:
        """Path of a checkpoint."""
        return self.path / "checkpoints" / name

    def close(self) -> None:
        """Release the lock on the directory."""
        self._lock.close()


def _lock(path: Path) -> TextIO:
    lock = (path / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise RunStateError(
            str(path), "is in use by another process", "Wait for it, or choose another run.name."
        ) from error
    return lock


def _require_outside(path: Path, student: str) -> None:
    """Check that the student is outside the directory, whose files a fresh run deletes."""
    model = Path(student)
    if model.exists() and model.resolve().is_relative_to(path.resolve()):
        rule = f"is inside the directory of this run, {path}"
        raise ConfigError("student.path", student, rule, "Choose another run.name.")


def _empty(path: Path) -> None:
    """Delete the files of an earlier run of this name; the lock stays held."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != ".lock":
            entry.unlink()


def _read_stages(path: Path) -> dict[str, dict[str, Any]]:
    file = path / "state.json"
    if not file.exists():
        return {}
    try:
        stages: dict[str, dict[str, Any]] = json.loads(file.read_text())["stages"]
    except (OSError, ValueError, KeyError) as error:
        raise RunStateError(
            str(file), "cannot be read", "Start over with run.fresh=true."
        ) from error
    return stages


def _require_same(path: Path, config: Config, stages: Mapping[str, Any]) -> None:
    """Compare the settings with those of the finished stages and of an interrupted stage.

    Raises:
        RunStateError: some settings differ; the message names up to three of them.
    """
    begun_by = {"rl": path / "checkpoints" / RL_STATE, "evaluate": path / "evals"}
    begun = set(stages) | {stage for stage, traces in begun_by.items() if traces.exists()}
    saved = _saved_config(path / "config.yaml")
    before, now = (_identity(c, begun) for c in (saved, config))
    changed = [
        f"{key} was {before.get(key)!r}, now {value!r}"
        for key, value in now.items()
        if before.get(key) != value
    ]
    if changed:
        fix = "Use the same settings, another run.name, or run.fresh=true to start over."
        raise RunStateError(
            str(path), f"holds stages made with other settings: {'; '.join(changed[:3])}", fix
        )


def _saved_config(file: Path) -> Config:
    """The configuration that an earlier command wrote.

    Raises:
        RunStateError: this version cannot read it, for example because a field was renamed.
    """
    try:
        return from_yaml(file.read_text())
    except ConfigError as error:
        problem = f"was written for a different version of the configuration: {error}"
        fix = "Use another run.name, or run.fresh=true to start over."
        raise RunStateError(str(file), problem.removesuffix("."), fix) from error


def _settle_rl_steps(path: Path, steps: int, stages: dict[str, dict[str, Any]]) -> None:
    """Reopen a finished RL stage if `rl.steps` was raised; see the module docstring.

    Raises:
        RunStateError: it has no checkpoint to resume from, or `rl.steps` was lowered.
    """
    if "rl" not in stages:
        return
    facts = stages["rl"]["facts"]
    done = facts["steps"]
    if steps in (done, facts["steps_asked"]):
        return
    if steps < done:
        problem = f"holds a student of {done} RL steps, more than rl.steps={steps}"
        fix = f"Set rl.steps={done} or more, or choose another run.name."
        raise RunStateError(str(path), problem, fix)
    if not (path / "checkpoints" / RL_STATE).exists():
        problem = f"ended its RL stage at step {done} without a checkpoint to resume from"
        start = f"student.path={path}/checkpoints/rl base.enabled=false sft.enabled=false"
        fix = f"Start another run from its student: run.name=NAME {start}."
        raise RunStateError(str(path), f"{problem} (rl.checkpoint_every=0)", fix)
    for stage in ("rl", "evaluate"):
        stages.pop(stage, None)
    (path / "evals" / "rl.json").unlink(missing_ok=True)
    write_json(path / "state.json", {"stages": stages})


def _identity(config: Config, begun: Collection[str]) -> dict[str, object]:
    """Dotted names and values of the settings that the started stages depend on."""
    tree = asdict(config)
    flat: dict[str, object] = {"run.seed": config.run.seed}
    for stage in SECTIONS:
        for section in SECTIONS[stage] if stage in begun else ():
            _flatten(section, tree[section], flat)
        for name in FIELDS.get(stage, ()) if stage in begun else ():
            section, field = name.split(".")
            flat[name] = tree[section][field]
    return {name: value for name, value in flat.items() if name not in NOT_FINGERPRINTED}


def _flatten(name: str, value: object, out: dict[str, object]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, out)
    else:
        out[name] = value
