"""Files of an exported student that define its prompts, end tokens and sampling defaults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bard_ray.data.chat_template import DEFAULT
from bard_ray.files import write_json, write_text

_TEMPLATE = "chat_template.jinja"
_NAMED_TEMPLATES = "additional_chat_templates"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_GENERATION_CONFIG = "generation_config.json"
# Entries kept from a model's own generation defaults; sampling parameters are overwritten.
_KEPT = ("bos_token_id", "eos_token_id", "pad_token_id")


def write_chat_templates(directory: Path, templates: Mapping[str, str]) -> None:
    """Replace the chat templates of a model directory in all files that transformers reads.

    Old ones may be in `tokenizer_config.json` or in a processor's `chat_template.json`.
    """
    (directory / "chat_template.json").unlink(missing_ok=True)
    shutil.rmtree(directory / _NAMED_TEMPLATES, ignore_errors=True)
    tokenizer = _read(directory / _TOKENIZER_CONFIG)
    if tokenizer.pop("chat_template", None) is not None:
        write_json(directory / _TOKENIZER_CONFIG, tokenizer)
    for name, template in templates.items():
        named = directory / _NAMED_TEMPLATES / f"{name}.jinja"
        write_text(directory / _TEMPLATE if name == DEFAULT else named, template)


def write_generation_config(directory: Path, eos_id: int, temperature: float) -> None:
    """Write generation defaults with the end tokens of training and the evaluation's sampling.

    The model's existing end ids are kept. `top_k` and `top_p` are written explicitly because
    libraries have different defaults for them.

    Args:
        directory: model directory.
        eos_id: token id that ends a completion.
        temperature: temperature of the evaluation; 0 is greedy.
    """
    before = _read(directory / _GENERATION_CONFIG) or _read(directory / "config.json")
    settings = {key: before[key] for key in _KEPT if before.get(key) is not None}
    known = settings.get("eos_token_id", [])
    ends = known if isinstance(known, list) else [known]
    settings["eos_token_id"] = [eos_id, *(end for end in ends if end != eos_id)]
    settings |= {"do_sample": temperature > 0, "temperature": float(temperature)}
    if temperature > 0:
        settings |= {"top_k": 0, "top_p": 1.0}
    write_json(directory / _GENERATION_CONFIG, settings)


def _read(file: Path) -> dict[str, Any]:
    """A JSON object from a file; empty if the file does not exist."""
    if not file.exists():
        return {}
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
