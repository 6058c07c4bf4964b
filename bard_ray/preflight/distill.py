"""Rules for the `distill` section."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from bard_ray.config.schema import Config, DistillConfig
from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.build_steps import (
    build_steps,
    chains_per_question,
    compressor_traits,
    required_roles,
    step_traits,
    writes_chains,
)
from bard_ray.distill.compressor import COMPRESSORS, own_budgets
from bard_ray.distill.step import STEPS
from bard_ray.distill.teacher import make_backends
from bard_ray.distill.traits import Traits
from bard_ray.errors import ConfigError
from bard_ray.preflight.bounds import Problems


def problems(config: Config) -> Problems:
    """Every broken rule."""
    yield from _plugins(config.distill)
    yield from _names(config.distill)
    yield from _synthetic_only(config)
    yield from _steps(config)
    yield from _order(config)
    yield from _budgets(config)


def warnings(config: Config) -> Iterator[str]:
    """Warnings about a valid configuration that probably does not do what is intended."""
    distill = config.distill
    compressor = COMPRESSORS.build(distill.compressor.name, distill.compressor.params)
    picked, chains = own_budgets(compressor), chains_per_question(distill)
    if picked and chains is not None and picked * chains < 2:
        yield (
            f"distill.compressor {distill.compressor.name} picks one budget per chain, and"
            " distill.steps request one chain per question: no question will have rows at two"
            " budgets, so the corpus has no contrast. Request more chains, for example"
            " {teach: {chains: 8}}; their lengths must differ."
        )


def _plugins(distill: DistillConfig) -> Iterator[ConfigError]:
    builds = (
        lambda: make_backends(distill.teachers),
        lambda: build_steps(distill.steps),
        lambda: Traits.of(COMPRESSORS.build(distill.compressor.name, distill.compressor.params)),
        lambda: ALLOCATIONS.build(distill.allocation.name, distill.allocation.params),
    )
    for build in builds:
        try:
            build()
        except ConfigError as problem:
            yield problem


def _names(distill: DistillConfig) -> Problems:
    """Teacher names must exist, and a compressor that needs a writer must have one."""
    known = list(distill.teachers)
    named = (
        ("distill.teacher", distill.teacher),
        ("distill.compressor.writer", distill.compressor.writer),
    )
    for field, name in named:
        if name and name not in known:
            fix = f"Name one of {', '.join(known)}." if known else "Add it to distill.teachers."
            yield ConfigError(field, name, "is not in distill.teachers", fix)
    if "writer" in required_roles(distill) and not distill.compressor.writer:
        rule = f"is needed by the compressor {distill.compressor.name}"
        fix = "Name the entry of distill.teachers that rewrites."
        yield ConfigError("distill.compressor.writer", "", rule, fix)


def _synthetic_only(config: Config) -> Problems:
    """Plug-ins for the synthetic task need its questions."""
    if config.data.source == "chain":
        return
    distill = config.distill
    if compressor_traits(distill).synthetic_only:
        rule = "can only shorten chains of the synthetic task"
        fix = "Use distill.compressor.name=rewrite, or hindsight, which needs no model."
        yield ConfigError("distill.compressor.name", distill.compressor.name, rule, fix)
    for name, traits in step_traits(distill):
        if traits.synthetic_only:
            rule = f"has {name}, which works on the synthetic task only"
            yield ConfigError("distill.steps", _step_names(distill), rule, "Remove it.")
    with suppress(ConfigError):
        for name, backend in make_backends(distill.teachers).items():
            if Traits.of(backend).synthetic_only:
                rule, fix = "only knows the synthetic task", "Use the backend openai or rollout."
                yield ConfigError(f"distill.teachers.{name}", str(backend), rule, fix)


def _steps(config: Config) -> Problems:
    """The pipeline must have a source of chains, and must use its teachers."""
    distill = config.distill
    asking = [name for name, traits in step_traits(distill) if "teacher" in traits.roles]
    if distill.teachers and not asking and distill.compressor.writer not in distill.teachers:
        rule, fix = "never uses the teachers", "Add teach to distill.steps, or clear them."
        yield ConfigError("distill.steps", _step_names(distill), rule, fix)
    if asking and not distill.teachers:
        fix = "For example distill.teachers='{clean: {backend: exact}}'."
        yield ConfigError("distill.teachers", {}, f"is needed by the step {asking[0]}", fix)
    if config.data.source == "chain" and not writes_chains(distill):
        rule = "has no step that writes chains, and the synthetic task has none of its own"
        yield ConfigError("distill.steps", _step_names(distill), rule, "Add teach.")


def _order(config: Config) -> Problems:
    """Fields that a step, filter or compressor reads must be added by an earlier step."""
    distill = config.distill
    # Without a step that writes chains they come with the data.
    added = set() if writes_chains(distill) else {"think"}
    plugins = [*step_traits(distill), (distill.compressor.name, compressor_traits(distill))]
    for name, traits in plugins:
        for field in traits.requires:
            if field not in added:
                rule = f"has {name}, which reads {field}, but no step before it adds that"
                yield ConfigError("distill.steps", _step_names(distill), rule, _fix(field, name))
        if "think" in traits.adds:  # new chains lack the fields that earlier steps added
            added = set()
        added |= set(traits.adds)


def _fix(field: str, name: str) -> str:
    adding = [step for step in STEPS.names() if field in Traits.of(STEPS.find(step)).adds]
    after = "" if field == "think" else ", and after a step that writes chains"
    return f"Put {' or '.join(adding) or f'a step that adds {field}'} before {name}{after}."


def _step_names(distill: DistillConfig) -> list[str]:
    return [name for name, _ in step_traits(distill)]


def _budgets(config: Config) -> Problems:
    count, most = config.distill.budgets_per_question, len(set(config.budget.train))
    if count > most:
        rule = f"exceeds the {most} different budgets of budget.train"
        yield ConfigError(
            "distill.budgets_per_question", count, rule, "Lower it, or add budgets to budget.train."
        )
