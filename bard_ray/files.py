"""Files and directories that a reader sees whole or not at all.

They are written aside, synced to disk, and renamed into place.
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
    """Give a file to write into; on success it takes the place of `path`, else nothing changes."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    sync(target.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as UTF-8."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write lines, which come without their ends, as UTF-8."""
    with atomic_file(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines)


def write_json(path: str | Path, value: object) -> None:
    """Write a JSON value, indented.

    Raises:
        TypeError: it is no JSON value; nothing is written.
    """
    write_text(path, json.dumps(value, indent=1) + "\n")


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Give a directory to write into; on success it takes the place of `path`.

    A crash between the two renames leaves the directory before beside its place: see `recover`.
    """
    recover(path)
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for entry in aside.rglob("*"):
            sync(entry)
        if path.exists():
            path.rename(_old(path))
        aside.rename(path)
        sync(path.parent)
        shutil.rmtree(_old(path), ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def recover(path: Path) -> None:
    """Put the directory before back where a crash between two renames left none at `path`."""
    if _old(path).exists():
        if path.exists():
            shutil.rmtree(_old(path))
        else:
            _old(path).rename(path)


def sync(path: Path) -> None:
    """Bring a file or a directory's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")
