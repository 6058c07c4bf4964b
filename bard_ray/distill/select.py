"""From `distill.steps` to steps: a selection of `bard_ray.distill.filters` is a step too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from bard_ray.distill.filter import FILTERS, Candidate, Filter, FilterContext, Judged
from bard_ray.distill.step import STEPS, Step, Tools, name_and_params
from bard_ray.errors import ConfigError

CHUNK_QUESTIONS = 256  # of a selection that goes question by question
WHOLE = ("near_duplicates",)  # selections that compare questions with each other


@dataclass(frozen=True)
class FilterStep:
    """A selection as a step; it is computed away from the event loop."""

    name: str
    stage: Filter
    DEPENDS_ON: ClassVar[tuple[str, ...]] = ("evaluation",)

    @property
    def questions(self) -> int:
        """All at once where questions are compared with each other; so for the user's own."""
        by_itself = self.name in FILTERS.names() and self.name not in WHOLE
        return CHUNK_QUESTIONS if by_itself else 0

    async def run(self, records: Sequence[Candidate], tools: Tools) -> list[Judged]:
        """Judge them."""
        return await tools.compute(judge, self.stage, list(records), tools.context)


def judge(stage: Filter, records: Sequence[Candidate], context: FilterContext) -> list[Judged]:
    """All verdicts of a selection."""
    return list(stage.judge(records, context))


def make_steps(entries: Sequence[object]) -> list[tuple[str, Step]]:
    """The steps of a configuration, with their names, in order.

    Raises:
        ConfigError: an entry is malformed, or its parameters do not fit.
    """
    return [_make(place, entry) for place, entry in enumerate(entries)]


def _make(place: int, entry: object) -> tuple[str, Step]:
    try:
        name, params = name_and_params(entry)
    except ValueError as error:
        fix = "For example distill.steps='[teach, grade, correct, {length: {max_tokens: 16384}}]'."
        raise ConfigError(f"distill.steps[{place}]", entry, str(error), fix) from error
    if name in STEPS.names():
        return name, STEPS.build(name, params)
    if name in FILTERS.names():
        return name, FilterStep(name, FILTERS.build(name, params))
    return _own(name, params) if ":" in name else _unknown(place, name)


def _own(name: str, params: object) -> tuple[str, Step]:
    """The user's own, as module:Class: a selection if it can judge, else a step."""
    label = name.rpartition(":")[2].lower()
    cls, given = _find(name), cast("dict[str, object]", params)
    if callable(getattr(cls, "judge", None)):
        return label, FilterStep(label, FILTERS.build(name, given))
    return label, STEPS.build(name, given)


def _find(name: str) -> type:
    try:
        return FILTERS.find(name)
    except ConfigError as error:
        if "has no method" in error.rule:
            return STEPS.find(name)
        raise


def _unknown(place: int, name: str) -> tuple[str, Step]:
    known = ", ".join([*STEPS.names(), *FILTERS.names()])
    fix = f"Use one of {known}, or your own as module:Class."
    raise ConfigError(f"distill.steps[{place}]", name, "is no known step", fix)
