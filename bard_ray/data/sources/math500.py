"""MATH-500."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.data.flat import FlatSource
from bard_ray.data.source import SOURCES, Hub


@SOURCES.register("math500")
@dataclass(frozen=True)
class Math500(FlatSource):
    """500 problems of the MATH test set. Source: data set card."""

    ids = ("unique_id",)
    meta = ("subject", "level")
    hubs = (Hub("HuggingFaceH4/MATH-500", split="test"),)
    trap = "Answers are LaTeX without dollar signs; there is a test split only."
