"""Atomic writing of files and directories: a reader sees them complete or not at all.

They are written under a temporary name, synced to disk, and renamed into place.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a file to write into; on success it replaces `path`, otherwise nothing changes."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    sync(target.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write a UTF-8 file atomically, one line for each item; items have no line ends."""
    with atomic_file(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines)


def write_json(path: str | Path, value: object) -> None:
    """Write an indented JSON file atomically.

    Raises:
        TypeError: the value is not JSON-serializable; nothing is written.
    """
    write_text(path, json.dumps(value, indent=1) + "\n")


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a directory to write into; on success it replaces `path`.

    A crash between the two renames leaves the previous directory under another name; see `recover`.
    """
    recover(path)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for entry in partial.rglob("*"):
            sync(entry)
        if path.exists():
            path.rename(_old(path))
        partial.rename(path)
        sync(path.parent)
        shutil.rmtree(_old(path), ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def recover(path: Path) -> None:
    """Restore the previous directory where a crash between the two renames left none at `path`."""
    if _old(path).exists():
        if path.exists():
            shutil.rmtree(_old(path))
        else:
            _old(path).rename(path)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")
