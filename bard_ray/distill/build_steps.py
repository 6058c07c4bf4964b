"""Builds the steps of a pipeline from `distill.steps`, `.compressor` and `.allocation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from bard_ray.config.schema import DistillConfig
from bard_ray.distill.allocation import ALLOCATIONS
from bard_ray.distill.compressor import COMPRESSORS
from bard_ray.distill.filter import (
    FILTERS,
    Candidate,
    Counters,
    Filter,
    FilterContext,
    StepResult,
    new_counters,
)
from bard_ray.distill.step import CHUNK_QUESTIONS, STEPS, Step, StepTools
from bard_ray.distill.steps.compress import Compress
from bard_ray.distill.traits import Traits
from bard_ray.errors import ConfigError

COMPRESS = "compress"  # name of the last step


@dataclass(frozen=True)
class FilterStep:
    """A filter as a step; it runs outside the event loop."""

    name: str
    filter: Filter
    # The context of every filter holds the evaluation questions; see `inputs_of`.
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("evaluation",)

    @property
    def chunk_questions(self) -> int:
        """All questions at once where the filter compares them."""
        return 0 if Traits.of(self.filter).compares_questions else CHUNK_QUESTIONS

    async def run(self, records: Sequence[Candidate], tools: StepTools) -> list[StepResult]:
        """Apply the filter and add its counters to the step's."""
        results, counters = await tools.compute(
            apply_filter, self.filter, list(records), tools.context
        )
        for name, value in counters.items():
            tools.counters[name] += value
        return results


def apply_filter(
    plugin: Filter, records: Sequence[Candidate], context: FilterContext
) -> tuple[list[StepResult], Counters]:
    """All results of a filter and what it counted; runs in any process."""
    own = FilterContext(context.evaluation, context.think_open, context.think_close, new_counters())
    return list(plugin.apply(records, own)), own.counters


def build_steps(entries: Sequence[object]) -> list[tuple[str, Step]]:
    """The steps of `distill.steps` with their names, in order.

    Raises:
        ConfigError: an entry is malformed or unknown, its parameters do not fit, or its class
            declares something wrong.
    """
    return [_build(place, entry) for place, entry in enumerate(entries)]


def pipeline_steps(distill: DistillConfig) -> list[tuple[str, Step]]:
    """The steps of a configuration, and the compression as the last one.

    Raises:
        ConfigError: see `build_steps`; the same holds for compressor and allocation.
    """
    compress = Compress(
        COMPRESSORS.build(distill.compressor.name, distill.compressor.params),
        ALLOCATIONS.build(distill.allocation.name, distill.allocation.params),
        distill.budgets_per_question,
        distill.compressor.writer,
    )
    return [*build_steps(distill.steps), (COMPRESS, compress)]


def inputs_of(step: Step) -> tuple[str, ...]:
    """Members of `FINGERPRINT_INPUTS` that the output of a step depends on.

    A filter adds those that its class declares to those of every filter.
    """
    inputs = Traits.of(step).depends_on
    if isinstance(step, FilterStep) and hasattr(step.filter, "DEPENDS_ON"):
        inputs += tuple(n for n in Traits.of(step.filter).depends_on if n not in inputs)
    return inputs


def reports_diversity(step: Step) -> bool:
    """Whether the data report compares the chains that a step keeps with random ones."""
    return Traits.of(step.filter if isinstance(step, FilterStep) else step).reports_diversity


def chains_per_question(distill: DistillConfig) -> int | None:
    """Chains that the steps write per question; None where they write none or do not say.

    Raises:
        ConfigError: see `build_steps`.
    """
    writers = [s for _, s in build_steps(distill.steps) if "think" in Traits.of(s).adds]
    chains = getattr(writers[-1], "chains", None) if writers else None
    return chains if isinstance(chains, int) else None


def step_traits(distill: DistillConfig) -> list[tuple[str, Traits]]:
    """Name and declarations of every entry of `distill.steps`, in order.

    Entries that cannot be found are left out: `build_steps` reports them.
    """
    found: list[tuple[str, Traits]] = []
    for entry in distill.steps:
        with suppress(ConfigError, ValueError):
            name, _ = _name_and_params(entry)
            found.append((name, Traits.of(_find(name))))
    return found


def compressor_traits(distill: DistillConfig) -> Traits:
    """Declarations of the compressor; the defaults if it cannot be found."""
    with suppress(ConfigError):
        return Traits.of(COMPRESSORS.find(distill.compressor.name))
    return Traits()


def required_roles(distill: DistillConfig) -> frozenset[str]:
    """Roles that the steps and the compressor declare; see `Traits.roles`."""
    every = [*(traits for _, traits in step_traits(distill)), compressor_traits(distill)]
    return frozenset(role for traits in every for role in traits.roles)


def writes_chains(distill: DistillConfig) -> bool:
    """Whether a step writes the chains; otherwise the data set must have them."""
    return any("think" in traits.adds for _, traits in step_traits(distill))


def _build(place: int, entry: object) -> tuple[str, Step]:
    here = f"distill.steps[{place}]"
    try:
        name, params = _name_and_params(entry)
    except ValueError as error:
        fix = "For example distill.steps='[teach, grade, correct, {length: {max_tokens: 16384}}]'."
        raise ConfigError(here, entry, str(error), fix) from error
    try:
        return _label(name), _plugin_step(name, params)
    except ConfigError as error:  # an entry has no sections `name` and `params` of its own
        field = error.field.replace("distill.steps.params", f"{here}.{name}")
        field = field.replace("distill.steps.name", here)
        fix = error.fix.partition("; distill.steps.params")[0].rstrip(".")
        raise ConfigError(field, error.value, error.rule, f"{fix}.") from error


def _plugin_step(name: str, params: Mapping[str, Any]) -> Step:
    cls = _find(name)
    Traits.of(cls)
    if callable(getattr(cls, "apply", None)):
        return FilterStep(_label(name), FILTERS.build(name, params))
    return STEPS.build(name, params)


def _find(name: str) -> type:
    """Class of a step or a filter.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in STEPS.names():
        return STEPS.find(name)
    if name in FILTERS.names():
        return FILTERS.find(name)
    if ":" not in name:
        fix = f"Use one of {', '.join([*STEPS.names(), *FILTERS.names()])}, or module:Class."
        raise ConfigError("distill.steps.name", name, "is not a known step", fix)
    with suppress(ConfigError):
        return FILTERS.find(name)
    try:
        return STEPS.find(name)
    except ConfigError as error:
        if "has no method" not in error.rule:
            raise
        rule = "has neither the method apply of a filter nor the method run of a step"
        fix = "docs/distillation.md shows how to write one."
        raise ConfigError("distill.steps.name", name, rule, fix) from error


def _label(name: str) -> str:
    """Name of a step in the store and in reports; of the user's own, its class in lower case."""
    return name.rpartition(":")[2].lower() if ":" in name else name


def _name_and_params(entry: object) -> tuple[str, Mapping[str, Any]]:
    """An entry of `distill.steps`: `teach`, or `{teach: {chains: 4}}`.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, params),) = entry.items()
        if isinstance(name, str) and isinstance(params, Mapping):
            return name, {str(key): value for key, value in params.items()}
    msg = "must be a step's name, or {name: {parameter: value}}"
    raise ValueError(msg)
