"""Rules of the `distill` section."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from bard_ray.config.schema import Config, DistillConfig
from bard_ray.distill.compressor import ALLOCATIONS, COMPRESSORS
from bard_ray.distill.select import make_steps
from bard_ray.distill.step import step_names
from bard_ray.distill.teacher import make_backends
from bard_ray.errors import ConfigError
from bard_ray.preflight.bounds import Problems


def problems(config: Config) -> Problems:
    """Every broken rule."""
    yield from _plugins(config.distill)
    yield from _teachers(config)
    yield from _steps(config)
    yield from _budgets(config)


def _plugins(distill: DistillConfig) -> Iterator[ConfigError]:
    builds = (
        lambda: make_backends(distill.teachers),
        lambda: make_steps(distill.steps),
        lambda: COMPRESSORS.build(distill.compressor.name, distill.compressor.params),
        lambda: ALLOCATIONS.build(distill.allocation.name, distill.allocation.params),
    )
    for build in builds:
        try:
            build()
        except ConfigError as problem:
            yield problem


def _teachers(config: Config) -> Problems:
    distill, known = config.distill, list(config.distill.teachers)
    named = (
        ("distill.teacher", distill.teacher),
        ("distill.compressor.writer", distill.compressor.writer),
    )
    for field, name in named:
        if name and name not in known:
            fix = f"Name one of {', '.join(known)}." if known else "Add it to distill.teachers."
            yield ConfigError(field, name, "is not in distill.teachers", fix)
    cls = None
    with suppress(ConfigError):
        cls = COMPRESSORS.find(distill.compressor.name)
    if getattr(cls, "NEEDS_WRITER", False) and not distill.compressor.writer:
        rule = f"is needed by the compressor {distill.compressor.name}"
        fix = "Name the entry of distill.teachers that rewrites."
        yield ConfigError("distill.compressor.writer", "", rule, fix)
    if getattr(cls, "CHAIN_ONLY", False) and config.data.source != "chain":
        rule = "can only shorten chains of the synthetic task"
        fix = "Use distill.compressor.name=rewrite, or hindsight, which needs no model."
        yield ConfigError("distill.compressor.name", distill.compressor.name, rule, fix)


def _steps(config: Config) -> Problems:
    distill, names = config.distill, step_names(config.distill)
    if (
        distill.teachers
        and "teach" not in names
        and distill.compressor.writer not in distill.teachers
    ):
        fix = "Add teach to distill.steps, or clear distill.teachers."
        yield ConfigError("distill.steps", names, "never asks the teachers", fix)
    if "teach" in names and not distill.teachers:
        fix = "For example distill.teachers='{clean: {backend: exact}}'."
        yield ConfigError("distill.teachers", {}, "is needed by the step teach", fix)
    if config.data.source == "chain" and "teach" not in names:
        rule = "must have the step teach: the synthetic task has no chains of its own"
        yield ConfigError("distill.steps", names, rule, "Add teach.")
    yield from _order(names)


def _order(names: list[str]) -> Problems:
    """What a selection goes by has to be there before it."""
    needs = {"correct": "grade", "pass_rate": "sample_student", "divergence": "likelihoods"}
    for place, name in enumerate(names):
        if name in needs and needs[name] not in names[:place]:
            rule = f"has {name} without {needs[name]} before it"
            yield ConfigError("distill.steps", names, rule, f"Put {needs[name]} before {name}.")


def _budgets(config: Config) -> Problems:
    count, most = config.distill.budgets_per_question, len(set(config.budget.train))
    if count > most:
        rule = f"exceeds the {most} different budgets of budget.train"
        yield ConfigError(
            "distill.budgets_per_question", count, rule, "Lower it, or teach more budgets."
        )
