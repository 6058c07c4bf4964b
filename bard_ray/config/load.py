"""From a recipe's dataclasses and dotted overrides to one typed configuration; YAML and back.

OmegaConf's structured configs check the types; this module turns each of its errors into a
`ConfigError` that names the field.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError

STEPS = list[Any]  # type of the list of the data pipeline's steps
# Renamed fields and sections: old name to new name.
RENAMED = {
    "distil": "distill",
    "distil.spread": "distill.allocation",
    "distill.spread": "distill.allocation",
    "rl.std_normalise": "rl.std_normalize",
}
# Removed fields and their replacement.
REMOVED = {
    "distill.contrastive": "Remove it; for a corpus without contrast set"
    " distill.allocation.name=tied.",
}
PARAMETERS = dict[str, Any]  # type of a field that holds the parameters of a plug-in
NAMES = dict[str, str]  # type of a field that maps user-defined names to texts


def load(config: Config, overrides: Sequence[str]) -> Config:
    """Apply overrides such as `rl.max_lag=2` to a copy of `config`, in order; the last one wins.

    Raises:
        ConfigError: an override without `=`, an unknown field, or a value of the wrong type.
    """
    node = OmegaConf.structured(config)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(
                "override", override, "has no `=`", "Write field=value, for example rl.max_lag=2."
            )
        _assign(node, key.strip(), _parse(key.strip(), text))
    return _to_object(node)


def to_yaml(config: Config) -> str:
    """The whole configuration as YAML; `from_yaml` is its inverse."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def from_yaml(text: str) -> Config:
    """Configuration from YAML; unnamed fields keep the schema's defaults.

    Raises:
        ConfigError: invalid YAML, an unknown field, or a value of the wrong type.
    """
    try:
        tree = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            "configuration", text[:60], f"is not valid YAML ({_one_line(error)})", "Fix it."
        ) from error
    except OSError:  # raised by OmegaConf for a document that is one number
        tree = None
    if not isinstance(tree, dict) or "" in tree:
        raise ConfigError(
            "configuration",
            text[:60],
            "is not a mapping of fields",
            "Write `rl:` and its fields below.",
        )
    node = OmegaConf.structured(Config())
    for key, value in tree.items():
        _assign(node, str(key), value)
    return _to_object(node)


def _to_object(node: DictConfig) -> Config:
    """Resolve interpolations and return the dataclass."""
    try:
        return cast(Config, OmegaConf.to_object(node))
    except OmegaConfBaseException as error:
        raise _refusal(str(error.full_key or "configuration"), error.value, error) from error


def _parse(key: str, text: str) -> Any:
    """Value of an override: the text itself for a text field, parsed YAML for any other.

    Text fields are not parsed because YAML 1.1 reads a run name such as `0123` as the number 83.
    """
    if _type(key) is str and text[:1] not in {"'", '"'}:
        return text
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            key, text, f"is not a valid value ({_one_line(error)})", "Quote it."
        ) from error


def _assign(node: DictConfig, key: str, value: object) -> None:
    """Set one field, or every field of a section when `value` is a mapping."""
    if isinstance(value, Mapping) and key not in fields():
        for name, inner in value.items():
            _assign(node, f"{key}.{name}", inner)
        return
    _require_known(key, value)
    _require_type(key, value)
    try:
        OmegaConf.update(node, key, value, merge=False, force_add=_is_entry(key))
    except OmegaConfBaseException as error:
        raise _refusal(key, value, error) from error


def _is_entry(key: str) -> bool:
    """Whether a key is an entry of a field that is a mapping.

    Entry names are checked where they are used: plug-in parameters by `bard_ray.plugins`, kinds of
    answers by `bard_ray.verify.kinds`, columns of a data set by `bard_ray.data.source`.
    """
    above = key.rpartition(".")[0]
    if fields().get(above) == NAMES:
        return True
    while above and above not in fields():  # an entry may itself be a mapping
        above = above.rpartition(".")[0]
    return fields().get(above) == PARAMETERS


def _require_known(key: str, value: object) -> None:
    if key in fields() or _is_entry(key):
        return
    inside = [name for name in fields() if name.startswith(f"{key}.")]
    if inside:
        raise ConfigError(
            key,
            value,
            "is a section, not a field",
            f"Set one of its fields, for example {inside[0]}.",
        )
    if fix := REMOVED.get(_new_name(key) or key):
        raise ConfigError(key, value, "does not exist any more", fix)
    if renamed := _new_name(key):
        raise ConfigError(key, value, f"is now called {renamed}", f"Write {renamed} instead.")
    raise ConfigError(key, value, "is no field of the configuration", _hint(key))


def _new_name(key: str) -> str:
    """The new name of a renamed field; empty if it was not renamed."""
    for old in sorted(RENAMED, key=len, reverse=True):
        if key == old or key.startswith(f"{old}."):
            return RENAMED[old] + key.removeprefix(old)
    return ""


def _hint(key: str) -> str:
    """Suggest the closest spellings, and fields of that name in other sections."""
    same_name = [name for name in fields() if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = [*difflib.get_close_matches(key, fields(), n=1, cutoff=0.75), *same_name]
    if not close:
        close = difflib.get_close_matches(key, fields(), n=3, cutoff=0.6)
    if not close:
        return "bard_ray/config/schema.py lists every field."
    return f"Did you mean {' or '.join(dict.fromkeys(close[:3]))}?"


def _require_type(key: str, value: object) -> None:
    """Reject values that OmegaConf would convert silently: numbers to text or to booleans."""
    wanted = _type(key)
    if wanted is str and not isinstance(value, str):
        raise ConfigError(key, value, "must be text", f'Quote it: "{value}".')
    if (
        wanted == list[str]
        and isinstance(value, list)
        and not all(isinstance(item, str) for item in value)
    ):
        raise ConfigError(
            key, value, "must be a list of texts", f"Quote each: {list(map(str, value))}."
        )
    if wanted == NAMES and isinstance(value, Mapping):
        for name, text in value.items():
            _require_type(f"{key}.{name}", text)
    if wanted is bool and not isinstance(value, bool):
        raise ConfigError(key, value, "must be true or false", "Write true or false.")


def _refusal(key: str, value: object, error: OmegaConfBaseException) -> ConfigError:
    wanted = _describe(_type(key))
    default = OmegaConf.select(OmegaConf.structured(Config()), key)
    return ConfigError(
        key, value, f"must be {wanted}", f"For example {key}={default} ({_one_line(error)})."
    )


def _describe(kind: object) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    names: dict[object, str] = {
        int: "a whole number",
        float: "a number",
        str: "text",
        list[int]: "a list of whole numbers such as [1,2]",
        list[str]: "a list such as [a,b]",
        PARAMETERS: "a mapping of parameter names to values",
        NAMES: "a mapping of names to texts",
        STEPS: "a list of names, or of {name: {parameter: value}}",
    }
    return names.get(kind, "a value of the field's type")


def _type(key: str) -> object:
    """Type of a field, or of an entry of a mapping of texts."""
    entry = fields().get(key.rpartition(".")[0]) == NAMES
    return str if entry else fields().get(key)


@cache
def fields() -> dict[str, object]:
    """Dotted name of every schema field and its type, in schema order."""
    return dict(_walk(Config, ""))


def _walk(section: type, prefix: str) -> Iterator[tuple[str, object]]:
    for name, kind in get_type_hints(section).items():
        if dataclasses.is_dataclass(kind):
            yield from _walk(cast(type, kind), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind


def _one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
