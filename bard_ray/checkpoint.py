"""Checkpoint directories, written atomically, with a manifest of file sizes and checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from bard_ray.errors import RunStateError
from bard_ray.files import atomic_directory, write_json

MANIFEST = "manifest.json"


@contextlib.contextmanager
def described_directory(path: Path, **facts: object) -> Iterator[Path]:
    """Yield a temporary directory to write into; on success it becomes `path`, with a manifest.

    Args:
        path: final place; an existing directory is replaced.
        facts: plain JSON values, stored in the manifest beside the files' sizes and checksums.
    """
    with atomic_directory(path) as partial:
        yield partial
        files = {
            str(f.relative_to(partial)): _describe(f)
            for f in sorted(partial.rglob("*"))
            if f.is_file()
        }
        write_json(partial / MANIFEST, {"facts": facts, "files": files})


def is_complete(path: Path) -> bool:
    """True where a directory has a manifest and all its files in their full size."""
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


def _describe(file: Path) -> dict[str, object]:
    """Size and SHA-256 of a file."""
    with file.open("rb") as stream:
        return {
            "bytes": file.stat().st_size,
            "sha256": hashlib.file_digest(stream, "sha256").hexdigest(),
        }
