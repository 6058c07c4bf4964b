"""Plug-ins by name: built-in ones register themselves, a user's own is named `module:Class`.

A plug-in is one file with one frozen dataclass: its docstring is its definition, its fields are its
parameters. A configuration names it (`rl.reward.name=product`) and sets its parameters
(`rl.reward.params.weight=0.5`); a mistake in either is a `ConfigError` before anything starts.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, get_type_hints

from bard_ray.errors import ConfigError

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """The plug-ins of one kind.

    A look-up imports every module of `package`, so a new built-in plug-in needs only a new file.
    """

    def __init__(self, field: str, package: str, method: str = "", key: str = "name") -> None:
        """Create a registry without plug-ins.

        Args:
            field: section of the configuration, such as `rl.reward`: its `.name` names a plug-in,
                its `.params` holds the parameters.
            package: dotted name of the package that holds the built-in plug-ins.
            method: method that every plug-in must have; a user's own without it is refused.
            key: field of the section that names the plug-in, if other than `name`.
        """
        self._name_field = f"{field}.{key}"
        self.field, self._package, self._method = field, package, method
        self._classes: dict[str, type] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator that registers a dataclass under `name`."""

        def keep(cls: C) -> C:
            self._classes[name] = cls
            return cls

        return keep

    def names(self) -> list[str]:
        """Names of all built-in plug-ins, sorted."""
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        return sorted(self._classes)

    def find(self, name: str) -> type:
        """The class of a built-in plug-in, or of `module:Class`.

        Raises:
            ConfigError: there is no plug-in of that name.
        """
        if name in self.names():
            return self._classes[name]
        if ":" in name:
            return self._imported(name)
        close = difflib.get_close_matches(name, self._classes, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        fix = f"{hint}Use one of {', '.join(self.names())}, or your own as module:Class."
        raise ConfigError(self._name_field, name, "is not a known plug-in", fix)

    def build(self, name: str, params: Mapping[str, object]) -> T:
        """Build the plug-in `name` with these parameters; the others keep their defaults.

        Raises:
            ConfigError: there is no such plug-in, a parameter is unknown or missing, or a value is
                invalid.
        """
        cls = self.find(name)
        self._require_known(cls, name, params)
        try:
            built: T = cls(**{key: _fit(cls, key, value) for key, value in params.items()})
        except (TypeError, ValueError) as error:
            fix = f"Its parameters are documented in {cls.__module__}.{cls.__qualname__}."
            raise ConfigError(
                f"{self.field}.params", dict(params), f"is not valid for {name} ({error})", fix
            ) from error
        return built

    def _imported(self, name: str) -> type:
        module, _, attribute = name.partition(":")
        try:
            cls = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError, SyntaxError) as error:
            fix = "Put its folder on PYTHONPATH, or its file beside the recipe."
            rule = f"cannot be imported ({error})"
            raise ConfigError(self._name_field, name, rule, fix) from error
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            fix = "Decorate it with @dataclass(frozen=True); its fields are its parameters."
            raise ConfigError(self._name_field, name, "is not a dataclass", fix)
        if self._method and not callable(getattr(cls, self._method, None)):
            fix = f"Define it like the plug-ins of {self._package}."
            raise ConfigError(self._name_field, name, f"has no method {self._method}", fix)
        return cls

    def _require_known(self, cls: type, name: str, params: Mapping[str, object]) -> None:
        known = [f.name for f in dataclasses.fields(cls) if f.init]
        for key in params:
            if key not in known:
                has = f"It has {', '.join(known)}" if known else "It has none"
                fix = f"{has}; {self.field}.params={{}} clears those of a recipe."
                rule = f"is not a parameter of {name}"
                raise ConfigError(f"{self.field}.params.{key}", params[key], rule, fix)


def require_within(
    name: str,
    value: float,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
) -> None:
    """Check that a parameter is finite and in [low, high]; `open_low` excludes `low` itself.

    Raises:
        ValueError: it is not; `Registry.build` turns this into a `ConfigError`.
    """
    above = value > low if open_low else value >= low
    if above and value <= high and math.isfinite(value):
        return
    bounds = [f"{'above' if open_low else 'at least'} {low:g}"] if low > -math.inf else []
    bounds += [f"at most {high:g}"] if high < math.inf else []
    msg = f"{name} must be {' and '.join(bounds) or 'finite'}, not {value}"
    raise ValueError(msg)


def _fit(cls: type, key: str, value: object) -> object:
    """A parameter converted to its field's type: integers to floats, lists to tuples.

    Raises:
        TypeError: the value has another type.
    """
    wanted: Any = get_type_hints(cls)[key]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    simple = wanted if wanted in (int, float, str, bool) else None
    if simple is not None and type(value) is not simple:
        msg = f"{key} must be {simple.__name__}, not {value!r}"
        raise TypeError(msg)
    return tuple(value) if isinstance(value, list) else value
