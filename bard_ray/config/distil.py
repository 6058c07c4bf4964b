"""Rules of the `distil` section."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from bard_ray.config.bounds import Problems
from bard_ray.config.schema import Config, DistilConfig
from bard_ray.distill.compressor import COMPRESSORS, SPREADS
from bard_ray.distill.select import make_steps
from bard_ray.distill.step import name_and_params
from bard_ray.distill.teacher import make_backends
from bard_ray.errors import ConfigError


def problems(config: Config) -> Problems:
    """Every broken rule."""
    yield from _plugins(config.distil)
    yield from _teachers(config)
    yield from _steps(config)
    yield from _budgets(config)


def step_names(distil: DistilConfig) -> list[str]:
    """Names of the steps, malformed entries left out."""
    names = []
    for entry in distil.steps:
        with suppress(ValueError):
            names.append(name_and_params(entry)[0])
    return names


def _plugins(distil: DistilConfig) -> Iterator[ConfigError]:
    builds = (
        lambda: make_backends(distil.teachers),
        lambda: make_steps(distil.steps),
        lambda: COMPRESSORS.build(distil.compressor.name, distil.compressor.params),
        lambda: SPREADS.build(distil.spread.name, distil.spread.params),
    )
    for build in builds:
        try:
            build()
        except ConfigError as problem:
            yield problem


def _teachers(config: Config) -> Problems:
    distil, known = config.distil, list(config.distil.teachers)
    named = (
        ("distil.teacher", distil.teacher),
        ("distil.compressor.writer", distil.compressor.writer),
    )
    for field, name in named:
        if name and name not in known:
            fix = f"Name one of {', '.join(known)}." if known else "Add it to distil.teachers."
            yield ConfigError(field, name, "is not in distil.teachers", fix)
    cls = None
    with suppress(ConfigError):
        cls = COMPRESSORS.find(distil.compressor.name)
    if getattr(cls, "NEEDS_WRITER", False) and not distil.compressor.writer:
        rule = f"is needed by the compressor {distil.compressor.name}"
        fix = "Name the entry of distil.teachers that rewrites."
        yield ConfigError("distil.compressor.writer", "", rule, fix)
    if getattr(cls, "CHAIN_ONLY", False) and config.data.source != "chain":
        rule = "can only shorten chains of the synthetic task"
        fix = "Use distil.compressor.name=rewrite, or hindsight, which needs no model."
        yield ConfigError("distil.compressor.name", distil.compressor.name, rule, fix)


def _steps(config: Config) -> Problems:
    distil, names = config.distil, step_names(config.distil)
    if distil.teachers and "teach" not in names and distil.compressor.writer not in distil.teachers:
        fix = "Add teach to distil.steps, or clear distil.teachers."
        yield ConfigError("distil.steps", names, "never asks the teachers", fix)
    if "teach" in names and not distil.teachers:
        fix = "For example distil.teachers='{clean: {backend: exact}}'."
        yield ConfigError("distil.teachers", {}, "is needed by the step teach", fix)
    if config.data.source == "chain" and "teach" not in names:
        rule = "must have the step teach: the synthetic task has no chains of its own"
        yield ConfigError("distil.steps", names, rule, "Add teach.")
    yield from _order(names)


def _order(names: list[str]) -> Problems:
    """What a selection goes by has to be there before it."""
    needs = {"correct": "grade", "pass_rate": "sample_student", "divergence": "likelihoods"}
    for place, name in enumerate(names):
        if name in needs and needs[name] not in names[:place]:
            rule = f"has {name} without {needs[name]} before it"
            yield ConfigError("distil.steps", names, rule, f"Put {needs[name]} before {name}.")


def _budgets(config: Config) -> Problems:
    count, most = config.distil.budgets_per_question, len(set(config.budget.train))
    if count > most:
        rule = f"exceeds the {most} different budgets of budget.train"
        yield ConfigError(
            "distil.budgets_per_question", count, rule, "Lower it, or teach more budgets."
        )
