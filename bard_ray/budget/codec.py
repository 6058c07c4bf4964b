"""Codecs: how a thinking budget is written into a prompt."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Protocol

from bard_ray.records import (
    Budget,
    EffortBudget,
    ModeBudget,
    NoBudget,
    TagBudget,
    TokenBudget,
    budget_label,
    token_limit,
)


class BudgetCodec(Protocol):
    """Writes a budget into the text of the last user message.

    Attributes:
        largest: the largest budget it can write, in tokens.
    """

    largest: ClassVar[float]

    def encode(self, budget: Budget) -> str:
        """Text appended to the question; empty for `NoBudget`."""
        ...


class DigitsCodec:
    """`<budget>27</budget>`: always two digits, so that every budget has the same shape.

    Source: ours, tiny task.
    """

    largest: ClassVar[float] = 99

    def encode(self, budget: Budget) -> str:
        """Text appended to the question.

        Raises:
            ValueError: the budget is not a token budget in 0..99 or none.
        """
        if isinstance(budget, NoBudget):
            return ""
        limit = token_limit(budget)
        if limit is None or not 0 <= limit <= self.largest:
            msg = f"the digits codec writes token budgets 0..99, not {budget_label(budget)}"
            raise ValueError(msg)
        return f"<budget>{limit:02d}</budget>"


class SentenceCodec:
    """One English sentence.

    Source: wording ours, after L1's "maximum of N tokens" prompts (arXiv 2503.04697).
    """

    largest: ClassVar[float] = math.inf

    def encode(self, budget: Budget) -> str:
        """Text appended to the question, starting with a blank line."""
        match budget:
            case TokenBudget(tokens):
                return f"\n\nThink for at most {tokens} tokens."
            case EffortBudget(fraction):
                return f"\n\nSpend {fraction:.0%} of your usual thinking effort."
            case ModeBudget(name):
                return f"\n\nThinking effort: {name}."
            case TagBudget(text):
                return f"\n\n{text}"
            case NoBudget():
                return ""


CodecName = Literal["digits", "sentence"]
CODECS: dict[CodecName, type[BudgetCodec]] = {"digits": DigitsCodec, "sentence": SentenceCodec}


def make_codec(name: CodecName) -> BudgetCodec:
    """Codec by its configuration name."""
    return CODECS[name]()
