"""Prompts as files: plain text with `{names}` in it, which a user can replace by their own.

Only the names a prompt may use are filled in; every other brace stays as it is, so LaTeX needs no
escapes, neither in a prompt nor in what is filled in.
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


def read_prompt(parameter: str, path: str, default: str, needed: Collection[str] = ()) -> str:
    """Text of a prompt file.

    Args:
        parameter: of the compressor, for messages.
        path: of the user's file; empty: the built-in one.
        default: name of the built-in file, without `.txt`.
        needed: placeholders that have to occur.

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
            fix = (
                f"Write {{{name}}} where it belongs, as in bard_ray/distill/prompts/{default}.txt."
            )
            raise ConfigError(field, path or default, f"lacks the placeholder {{{name}}}", fix)
    return text.strip()


def fill(text: str, values: Mapping[str, object]) -> str:
    """Put values in place of their `{names}`; what is put in is not looked at again."""
    names = "|".join(map(re.escape, values))
    return re.sub(rf"\{{({names})\}}", lambda match: str(values[match[1]]), text)


def sections(text: str) -> dict[str, str]:
    """Parts of a text by their headings, lines such as `[too_long]`."""
    _, *parts = _SECTION.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def conversation_text(messages: Sequence[Message]) -> str:
    """A question as it stands in a prompt; with its roles where it is more than one message."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)
