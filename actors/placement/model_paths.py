"""Location of the student's initial weights: generated, a directory, or the hub's local cache."""

from __future__ import annotations

from pathlib import Path

from actors.cluster.env import network_env
from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError


def student_directory(config: Config, run_path: Path) -> str:
    """A Hugging Face model directory with the student's initial weights.

    The tiny model is written on first use.

    Raises:
        ConfigError: the model is not on this machine, and the network is off (as it is by default).
    """
    student = config.student
    if student.path == "tiny":
        return _tiny(config, run_path / "checkpoints" / "student")
    return model_directory(student.path, student.revision, "student.path")


def model_directory(model: str, revision: str, field: str) -> str:
    """Local directory of a model given as a directory or as a hub id in the local cache.

    Raises:
        ConfigError: the model of `field` is not on this machine, and the network is off (as it is
            by default).
    """
    if Path(model).is_dir():
        return str(Path(model).resolve())
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    offline = network_env()["HF_HUB_OFFLINE"] == "1"
    try:
        return snapshot_download(model, revision=revision, local_files_only=offline)
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        rule = f"is not in the local cache at revision {revision}, and the network is off"
        fetch = f"Fetch it beforehand (`hf download {model}`)"
        fix = f"{fetch}, give a directory, or set HF_HUB_OFFLINE=0."
        raise ConfigError(field, model, rule, fix) from error


def _tiny(config: Config, path: Path) -> str:
    if not (path / "config.json").exists():
        from bard_ray.data.tiny_model import write_tiny_model
        from bard_ray.files import atomic_directory

        with atomic_directory(path) as aside:
            write_tiny_model(
                str(aside),
                config.student.tiny,
                config.data.chain,
                config.run.seed,
                config.student.max_len,
            )
    return str(path.resolve())
