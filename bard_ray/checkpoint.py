"""Directories that are there whole or not at all.

They are written aside, synced, described by a manifest, and renamed into place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bard_ray.errors import RunStateError

MANIFEST = "manifest.json"


@contextlib.contextmanager
def atomic_directory(path: Path, **facts: object) -> Iterator[Path]:
    """Give a temporary directory to write into.

    On success it becomes `path`, complete with a manifest.

    Args:
        path: final place; what is there already is replaced.
        facts: plain JSON values kept in the manifest beside the files' sizes and checksums.
    """
    aside, old = path.with_name(f".{path.name}.partial"), _old(path)
    recover(path)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        files = {
            str(f.relative_to(aside)): _describe(f) for f in sorted(aside.rglob("*")) if f.is_file()
        }
        write_json(aside / MANIFEST, {"facts": facts, "files": files})
        if path.exists():
            path.rename(old)
        aside.rename(path)
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def recover(path: Path) -> None:
    """Put the directory before back where a crash between two renames left none at `path`."""
    if _old(path).exists():
        if path.exists():
            shutil.rmtree(_old(path))
        else:
            _old(path).rename(path)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def is_complete(path: Path) -> bool:
    """True where a directory has a manifest and every file of it is there in full size."""
    try:
        files = json.loads((path / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return False
    return all(
        (path / name).is_file() and (path / name).stat().st_size == d["bytes"]
        for name, d in files.items()
    )


def verify(path: Path) -> dict[str, object]:
    """Check every checksum of a directory; returns the manifest's facts.

    Raises:
        RunStateError: the manifest or a file is missing, or a file changed.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise RunStateError(
            str(path), "has no readable manifest", "Delete it and run again."
        ) from error
    for name, described in manifest["files"].items():
        file = path / name
        if not file.is_file() or _describe(file) != described:
            raise RunStateError(
                str(file),
                "is missing or does not match its checksum",
                "Delete the directory and run again.",
            )
    facts: dict[str, object] = manifest["facts"]
    return facts


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w") as stream:
        json.dump(value, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)
    _sync(path.parent)


def _describe(file: Path) -> dict[str, object]:
    """Size and SHA-256 of a file, synced to disk on the way."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        return {
            "bytes": file.stat().st_size,
            "sha256": hashlib.file_digest(stream, "sha256").hexdigest(),
        }


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
