"""Length of the thinking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from bard_ray.distill.filter import FILTERS, Candidate, FilterContext, StepResult
from bard_ray.plugins import require_within


@FILTERS.register("length")
@dataclass(frozen=True)
class LengthFilter:
    """Keep chains of min_tokens <= T <= max_tokens, T tokens of the student between the tags.

    Reasons: `too_short`, `too_long`. Source: DED drops chains of more than 16k tokens; counting in
    tokens of the student is DASD's.

    Attributes:
        min_tokens: shortest chain.
        max_tokens: longest chain.
    """

    REQUIRES: ClassVar[tuple[str, ...]] = ("think",)

    min_tokens: int = 1
    max_tokens: int = 16_384

    def __post_init__(self) -> None:
        require_within("min_tokens", self.min_tokens, 0)
        require_within("max_tokens", self.max_tokens, self.min_tokens)

    def apply(self, records: Iterable[Candidate], context: FilterContext) -> Iterator[StepResult]:
        """Each record by itself."""
        for record in records:
            if record.tokens_T.size > self.max_tokens:
                yield record, "too_long"
            else:
                yield record, "too_short" if record.tokens_T.size < self.min_tokens else ""
