"""How each evaluated variant is shown: one table for terminal, report and model card."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bard_ray.plotting import SERIES
from bard_ray.report.text import visible


@dataclass(frozen=True, slots=True)
class Variant:
    """How a variant is shown.

    Attributes:
        label: its name for people.
        meaning: one line on what it is.
        series: which of the colors of `bard_ray.plotting.SERIES` is its own.
        show_length: False where the length is forced, so that it says nothing about the variant.
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
# Each of these was trained from the one before it.
LINEAGE = ("student", "sft", "rl")


def variant_of(name: str) -> Variant:
    """How a variant is shown; an unknown one under its own name."""
    return VARIANTS.get(name, Variant(visible(name), "", len(VARIANTS)))


def color_of(name: str, names: Collection[str]) -> str:
    """Color of a variant: the same in every figure, and different for those shown together.

    Args:
        name: of the variant.
        names: of all variants that are shown, in order.
    """
    unknown = [other for other in names if other not in VARIANTS]
    extra = unknown.index(name) if name in unknown else 0
    return SERIES[(variant_of(name).series + extra) % len(SERIES)]


def newest(names: Collection[str]) -> str | None:
    """The most trained student among the variants; None if none of them is in `LINEAGE`."""
    return next((name for name in reversed(LINEAGE) if name in names), None)


def before(name: str, names: Collection[str]) -> str | None:
    """The variant that `name` was trained from, or the nearest one that was measured."""
    earlier = LINEAGE[: LINEAGE.index(name)] if name in LINEAGE else ()
    return next((other for other in reversed(earlier) if other in names), None)
