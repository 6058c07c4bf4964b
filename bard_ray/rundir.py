"""The directory of a run: its files, which stages are done, and whether a command may resume it.

config.yaml  metrics.jsonl  tensorboard/  data/  checkpoints/  evals/  export/  logs/
results.json  report.html
state.json   {"stages": {name: {"wall_s": seconds, "facts": {...}}}}: the stages that are done
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

# Sections of the configuration that each stage's output follows from, besides those of the stages
# before it. The rest (workers, learner ranks, cluster, verbosity) may differ between attempts.
SECTIONS = {
    "data": ("data",),
    "base": ("student", "base"),
    "distill": ("student", "data", "budget", "distill"),
    "sft_full": ("sft_full",),
    "sft": ("sft",),
    "rl": ("rl",),
    "evaluate": ("evaluate",),
}
# Fields of other sections that a stage's output follows from: which corpora, which variants.
FIELDS = {
    "data": [f"base.{f}" for f in ("enabled", "rows")],
    "distill": [f"{s}.{f}" for s in ("sft_full", "sft") for f in ("enabled", "rows")],
    "evaluate": [f"{s}.enabled" for s in ("sft_full", "sft", "rl")],
}
# Of those, what changes the speed only.
NOT_FINGERPRINTED = ("distill.workers", "distill.store")
RL_STATE = "rl-state"  # checkpoint inside the RL stage


class RunDirectory:
    """An opened run: at most one process has it open at a time."""

    def __init__(self, path: Path, lock: TextIO, stages: dict[str, dict[str, Any]]) -> None:
        self.path, self._lock, self._stages = path, lock, stages

    @classmethod
    def open(cls, config: Config) -> RunDirectory:
        """Create the directory of `run.name`, or resume from what an earlier command left there.

        Raises:
            RunStateError: another process has it open, or its stages were made with other settings.
        """
        path = Path(config.run.dir) / config.run.name
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        try:
            if config.run.fresh:
                _empty(path)
            stages = _read_stages(path)
            if stages:
                _require_same(path, config, stages)
            else:  # weights of an attempt that ended before its first stage did
                shutil.rmtree(path / "checkpoints", ignore_errors=True)
            write_text(path / "config.yaml", to_yaml(config))
        except BaseException:
            lock.close()
            raise
        return cls(path, lock, stages)

    def is_done(self, stage: str) -> bool:
        """True where an earlier command, or this one, finished the stage."""
        return stage in self._stages

    def facts(self, stage: str) -> Mapping[str, Any]:
        """What a finished stage recorded of itself."""
        facts: Mapping[str, Any] = self._stages[stage]["facts"]
        return facts

    def finish(self, stage: str, wall_s: float, facts: Mapping[str, Any]) -> None:
        """Record a stage as done; from here on a restart skips it."""
        self._stages[stage] = {"wall_s": round(wall_s, 3), "facts": dict(facts)}
        write_json(self.path / "state.json", {"stages": self._stages})

    @property
    def wall_s(self) -> dict[str, float]:
        """Wall seconds of every finished stage, in order."""
        return {name: float(stage["wall_s"]) for name, stage in self._stages.items()}

    def checkpoint(self, name: str) -> Path:
        """Place of a checkpoint."""
        return self.path / "checkpoints" / name

    def close(self) -> None:
        """Let the next process in."""
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


def _empty(path: Path) -> None:
    """Delete what an earlier run of this name left, and nothing else: the lock stays held."""
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
    """Compare with the settings of the finished stages and of a stage that was begun.

    Raises:
        RunStateError: some differ; the message names up to three of them.
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
        RunStateError: this version cannot read it, because a field has another name now, say.
    """
    try:
        return from_yaml(file.read_text())
    except ConfigError as error:
        problem = f"was written with other fields than there are now: {error}"
        fix = "Use another run.name, or run.fresh=true to start over."
        raise RunStateError(str(file), problem.removesuffix("."), fix) from error


def _identity(config: Config, begun: Collection[str]) -> dict[str, object]:
    """Dotted names and values of the settings that the stages begun so far depend on."""
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
