"""Presentation of each evaluated variant, shared by terminal, report and model card."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bard_ray.plotting import SERIES
from bard_ray.report.text import visible


@dataclass(frozen=True, slots=True)
class Variant:
    """Presentation of a variant.

    Attributes:
        label: display name.
        meaning: one-line description.
        series: index of its color in `bard_ray.plotting.SERIES`.
        show_length: False if the length is forced and carries no information on the variant.
    """

    label: str
    meaning: str
    series: int
    show_length: bool = True


VARIANTS: dict[str, Variant] = {
    "student": Variant("given student", "the student before budget-aware training", 2),
    "sft": Variant("BARD-SFT", "after budget-aware distillation", 1),
    "rl": Variant("BARD", "after reinforcement learning", 0),
    "sft_full_forced": Variant(
        "forced", "trained on full chains; thinking cut off at the budget", 3, show_length=False
    ),
}
# Each variant is trained from the previous one.
LINEAGE = ("student", "sft", "rl")


def variant_of(name: str) -> Variant:
    """Presentation of a variant; an unknown one is shown under its own name."""
    return VARIANTS.get(name, Variant(visible(name), "", len(VARIANTS)))


def color_of(name: str, names: Collection[str]) -> str:
    """Color of a variant: the same in every figure, and distinct among variants shown together.

    Args:
        name: name of the variant.
        names: names of all variants that are shown, in order.
    """
    unknown = [other for other in names if other not in VARIANTS]
    extra = unknown.index(name) if name in unknown else 0
    return SERIES[(variant_of(name).series + extra) % len(SERIES)]


def newest(names: Collection[str]) -> str | None:
    """The last student in training order among the variants; None if none is in `LINEAGE`."""
    return next((name for name in reversed(LINEAGE) if name in names), None)


def before(name: str, names: Collection[str]) -> str | None:
    """The closest evaluated ancestor of a variant."""
    earlier = LINEAGE[: LINEAGE.index(name)] if name in LINEAGE else ()
    return next((other for other in reversed(earlier) if other in names), None)
