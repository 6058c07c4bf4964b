"""Prompt templates: text files with `{placeholders}`, which a user can replace by their own.

Only known placeholders are filled in; all other braces stay as they are, so LaTeX needs no
escapes, neither in a template nor in the values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from bard_ray.errors import ConfigError
from bard_ray.records import Message

_PACKAGE = "bard_ray.distill.prompts"
_SECTION = re.compile(r"^\[(\w+)\][ \t]*$", re.MULTILINE)


def read_template(parameter: str, path: str, default: str, needed: Collection[str] = ()) -> str:
    """Text of a template file.

    Args:
        parameter: of the compressor, for error messages.
        path: of the user's file; empty: the built-in one.
        default: name of the built-in file, without `.txt`.
        needed: placeholders that must occur.

    Raises:
        ConfigError: the file cannot be read, or a placeholder is missing.
    """
    field = f"distill.compressor.params.{parameter}"
    try:
        text = (Path(path) if path else files(_PACKAGE) / f"{default}.txt").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        rule = f"cannot be read ({getattr(error, 'strerror', None) or 'it is not UTF-8'})"
        fix = f"Name a text file; bard_ray/distill/prompts/{default}.txt is an example."
        raise ConfigError(field, path, rule, fix) from error
    for name in needed:
        if f"{{{name}}}" not in text:
            fix = f"Add {{{name}}}, as in bard_ray/distill/prompts/{default}.txt."
            raise ConfigError(field, path or default, f"lacks the placeholder {{{name}}}", fix)
    return text.strip()


def fill(text: str, values: Mapping[str, object]) -> str:
    """Replace each `{name}` by its value; values are not scanned for placeholders."""
    names = "|".join(map(re.escape, values))
    return re.sub(rf"\{{({names})\}}", lambda match: str(values[match[1]]), text)


def sections(text: str) -> dict[str, str]:
    """Sections of a text by their headings, lines such as `[too_long]`."""
    _, *parts = _SECTION.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def conversation_text(messages: Sequence[Message]) -> str:
    """A question as one text; with roles where it has more than one message."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)
