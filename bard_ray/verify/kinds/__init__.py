"""Kinds of answers by name, each with its grader.

A built-in kind is one module in this package with a function `grade(item) -> Verdict`, whose
docstring defines the kind. A user-defined kind is named in the configuration,
`verifier.kinds: {chess: "my_graders:grade_chess"}`. Only the configuration can import code; a data
set can only name a known kind.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping

from bard_ray.errors import ConfigError
from bard_ray.records import GradeItem, Verdict

Grader = Callable[[GradeItem], Verdict]

_BUILT_IN = frozenset(module.name for module in pkgutil.iter_modules(__path__))
_graders: dict[str, Grader] = {}


def known_kinds() -> list[str]:
    """Names of all built-in and registered kinds in this process, sorted."""
    return sorted(_BUILT_IN | _graders.keys())


def find_kind(name: str) -> Grader | None:
    """Grader of a kind; None if there is no such kind."""
    if name not in _graders and name in _BUILT_IN:
        _graders[name] = importlib.import_module(f"{__name__}.{name}").grade
    return _graders.get(name)


def register_kinds(mapping: Mapping[str, str]) -> None:
    """Import and register a user's kinds, in the driver and in every grading child.

    Args:
        mapping: kind to `module:function`; registering it again has no effect.

    Raises:
        ConfigError: a name is taken by a built-in kind, or a function cannot be imported.
    """
    for kind, target in mapping.items():
        if kind in _BUILT_IN:
            rule, fix = "is a built-in kind", "Give your own kind another name."
            raise ConfigError(f"verifier.kinds.{kind}", target, rule, fix)
        _graders[kind] = _imported(kind, target)


def _imported(kind: str, target: str) -> Grader:
    field = f"verifier.kinds.{kind}"
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise ConfigError(field, target, "names no function", "Write module:function.")
    try:
        grader: Grader = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        fix = "It must be importable from where the recipe runs."
        raise ConfigError(field, target, f"cannot be imported ({error})", fix) from error
    if not callable(grader):
        raise ConfigError(field, target, "is no function", "Name one that takes a GradeItem.")
    return grader
