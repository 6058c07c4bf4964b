"""AIME 2025."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.data.aime import AimeSource
from bard_ray.data.source import SOURCES, Hub


@SOURCES.register("aime25")
@dataclass(frozen=True)
class Aime25(AimeSource):
    """30 competition problems of 2025, any of their mirrors. Source: data set cards."""

    prefix = "aime25-"
    hubs = (
        Hub("yentinglin/aime_2025"),
        Hub("opencompass/AIME2025", "AIME2025-I", "test"),
        Hub("opencompass/AIME2025", "AIME2025-II", "test"),
        Hub("math-ai/aime25", split="test"),
        Hub("MathArena/aime_2025"),
    )
    trap = (
        "Columns and splits differ by mirror, one has two configs and no ids, one int64 answers "
        "and a non-commercial license."
    )
