"""A model directory that needs Python code of its own: a Qwen3 under another name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

CONFIGURATION = """\
from transformers import Qwen3Config


class OwnConfig(Qwen3Config):
    model_type = "bard_own"
"""
MODELING = """\
from transformers import Qwen3ForCausalLM

from .configuration_own import OwnConfig


class OwnForCausalLM(Qwen3ForCausalLM):
    config_class = OwnConfig
"""
TOKENIZATION = """\
from transformers import PreTrainedTokenizerFast


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
FILES = {
    "configuration_own.py": CONFIGURATION,
    "modeling_own.py": MODELING,
    "tokenization_own.py": TOKENIZATION,
}


def write_custom_model(source: str | Path, directory: Path) -> str:
    """Copy a Qwen3 directory; its classes are then found in Python files beside the weights."""
    shutil.copytree(source, directory)
    for name, code in FILES.items():
        (directory / name).write_text(code)
    classes = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    }
    own = {"model_type": "bard_own", "architectures": ["OwnForCausalLM"], "auto_map": classes}
    _change(directory / "config.json", own)
    if (directory / "tokenizer_config.json").exists():
        auto = {"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]}
        own = {"auto_map": auto, "tokenizer_class": "OwnTokenizer"}
        _change(directory / "tokenizer_config.json", own)
    return str(directory)


def _change(file: Path, values: Mapping[str, object]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
