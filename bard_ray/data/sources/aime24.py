"""AIME 2024."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.data.aime import AimeSource
from bard_ray.data.source import SOURCES, Hub


@SOURCES.register("aime24")
@dataclass(frozen=True)
class Aime24(AimeSource):
    """30 competition problems of 2024, any of their mirrors. Source: data set cards."""

    prefix = "aime24-"
    hubs = (Hub("HuggingFaceH4/aime_2024"), Hub("Maxwell-Jia/AIME_2024"))
    trap = (
        "One mirror capitalizes its columns; answers are text with leading zeros or integers; "
        "problems were corrected upstream, so pin the revision."
    )
