"""What an output depends on, as JSON and as a digest; runs that agree on it share the output."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def identity(plugin: object) -> dict[str, Any]:
    """The class and the parameters of a plug-in, as far as they decide its output.

    Parameters named in the class attribute `NOT_FINGERPRINTED` (speed, place, retries) are left
    out: changing them keeps existing outputs valid.
    """
    if not is_dataclass(plugin):
        msg = f"{plugin!r} is no plug-in: its parameters cannot be listed"
        raise TypeError(msg)
    cls = type(plugin)
    left_out = getattr(cls, "NOT_FINGERPRINTED", ())
    named = {f.name: getattr(plugin, f.name) for f in fields(plugin) if f.name not in left_out}
    return {"is": f"{cls.__module__}:{cls.__qualname__}", **_code(cls), **named}


def _code(cls: type) -> dict[str, str]:
    """Digest of the source file of a user's own class, which may change between two runs."""
    if cls.__module__.partition(".")[0] == "bard_ray":
        return {}
    try:
        source = Path(inspect.getfile(cls)).read_bytes()
    except (OSError, TypeError):  # typed into an interpreter
        return {}
    return {"code": hashlib.sha256(source).hexdigest()[:16]}


def digest(content: object) -> str:
    """128 bits of hex of any JSON value; equal content has an equal digest."""
    return hashlib.blake2b(_text(content).encode(), digest_size=16).hexdigest()


def as_json(content: object) -> Any:
    """Plain JSON values of content that holds plug-ins."""
    return json.loads(_text(content))


def _text(content: object) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return identity(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    msg = f"{value!r} is no JSON value"
    raise TypeError(msg)
