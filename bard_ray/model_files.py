"""Hugging Face model directories: weight files and their headers, and Python code beside them.

Source: the safetensors format, an 8-byte little-endian header length and a JSON header that gives
each tensor's type, shape and offsets.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bard_ray.errors import ConfigError

Shape = tuple[int, ...]


def weight_files(directory: str | Path) -> list[Path]:
    """Safetensors files of a model directory, in name order; empty where it has none."""
    return sorted(Path(directory).glob("*.safetensors"))


def stored_shapes(directory: str | Path) -> dict[str, Shape]:
    """Names and shapes of a model directory's parameters, read from the file headers only."""
    headers = (_header(file) for file in weight_files(directory))
    return {name: tuple(entry["shape"]) for header in headers for name, entry in header.items()}


def stored_params(directory: str | Path) -> int:
    """Number of parameters in a model directory; 0 where it has no weight files."""
    return sum(math.prod(shape) for shape in stored_shapes(directory).values())


@contextlib.contextmanager
def custom_code_refused(path: str) -> Iterator[None]:
    """Name the setting where transformers refuses to run a model directory's own Python code.

    Raises:
        ConfigError: what is done inside needs that code, and it is not trusted.
    """
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        rule = f"{path} cannot be loaded without running Python code of its own"
        fix = (
            "Read that code; if you trust it, set student.trust_remote_code=true. "
            "Serve a teacher with code of its own through the backend openai."
        )
        raise ConfigError("student.trust_remote_code", False, rule, fix) from error


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        header: dict[str, Any] = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    header.pop("__metadata__", None)
    return header
