"""Hugging Face model directories: their weight files, and parameter shapes from the headers.

Source: the safetensors format, an 8-byte little-endian header length and a JSON header that gives
each tensor's type, shape and offsets.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

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


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        header: dict[str, Any] = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    header.pop("__metadata__", None)
    return header
