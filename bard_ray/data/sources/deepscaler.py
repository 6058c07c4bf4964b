"""DeepScaleR."""

from __future__ import annotations

from dataclasses import dataclass

from bard_ray.data.flat import FlatSource
from bard_ray.data.source import SOURCES, Hub


@SOURCES.register("deepscaler")
@dataclass(frozen=True)
class DeepScaler(FlatSource):
    """Competition problems for RL. Source: data set card."""

    ids = ()
    null_answer = "no gold answer"
    lenient = True
    hubs = (Hub("agentica-org/DeepScaleR-Preview-Dataset"),)
    trap = "Solutions may be empty, so none is read: questions only."
