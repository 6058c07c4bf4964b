"""Hugging Face model directories: atomic writing, identity stamps, and files beside the weights."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bard_ray.config.schema import LearnerConfig
from bard_ray.errors import RunStateError
from bard_ray.files import atomic_directory, write_json
from bard_ray.model_files import weight_files

if TYPE_CHECKING:
    import torch

# Real path, and modification time in nanoseconds and size of each weight file.
Stamp = tuple[str, tuple[tuple[str, int, int], ...]]

LAYOUT_FILE = "layout.json"
_LAYOUT_KEYS = ("ranks", "zero_stage", "precision")
# Files of a model directory besides weights and configuration: tokenizer, chat templates,
# generation defaults.
_SIDE_PATTERNS = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "*_tokens*.json",
    "chat_template*",
    "additional_chat_templates/*.jinja",
    "generation_config.json",
)
_CODE_PATTERN = "*.py"


@dataclass(frozen=True, slots=True)
class SideFiles:
    """Tokenizer and generation files by relative path, held in memory.

    Their source directory may no longer exist at export.
    """

    content: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str, *, code: bool = False) -> SideFiles:
        """Read the files from a model directory; `code` includes its Python files."""
        root = Path(path)
        patterns = (*_SIDE_PATTERNS, _CODE_PATTERN) if code else _SIDE_PATTERNS
        files = {file for pattern in patterns for file in root.glob(pattern) if file.is_file()}
        return cls({str(file.relative_to(root)): file.read_bytes() for file in sorted(files)})


def stamp(path: str) -> Stamp:
    """Identity of a directory's weights without reading them.

    The same stamp means the same weights.
    """
    files = weight_files(path)
    return os.path.realpath(path), tuple(
        (f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files
    )


def write(path: str, model: Any, tensors: dict[str, torch.Tensor], side: SideFiles) -> None:
    """Write a model directory next to its destination and rename it into place.

    An existing directory is replaced.

    Args:
        path: final directory.
        model: source of the configuration.
        tensors: weights on the CPU; empty for a directory that only describes the model.
        side: files to write beside them.
    """
    from huggingface_hub import save_torch_state_dict

    with atomic_directory(Path(path)) as aside:
        if tensors:
            save_torch_state_dict(tensors, aside, metadata={"format": "pt"})
        _exported_config(model).save_pretrained(aside)
        for name, content in side.content.items():
            file = aside / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)


def write_layout(path: str, config: LearnerConfig) -> None:
    """Record the layout of the learner group that saved its state in `path`."""
    layout = {key: asdict(config)[key] for key in _LAYOUT_KEYS}
    write_json(Path(path) / LAYOUT_FILE, layout)


def check_layout(path: str, config: LearnerConfig) -> None:
    """Check that state was saved by a learner group of the same layout.

    Raises:
        RunStateError: there is no state, or a group of another layout saved it.
    """
    file = Path(path) / LAYOUT_FILE
    if not file.exists():
        raise RunStateError(path, "holds no learner state", "Resume from another checkpoint.")
    saved = json.loads(file.read_text(encoding="utf-8"))
    differing = [key for key in _LAYOUT_KEYS if saved.get(key) != asdict(config)[key]]
    if differing:
        now = ", ".join(
            f"learner.{key} = {asdict(config)[key]}, saved with {saved.get(key)}"
            for key in differing
        )
        problem = f"was saved by another kind of learner group ({now})"
        raise RunStateError(path, problem, "Resume with the settings it was saved with.")


def _exported_config(model: Any) -> Any:
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = str(model.dtype).removeprefix("torch.")
    return config
