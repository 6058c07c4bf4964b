"""Codecs: how a thinking budget is written into a prompt."""

from __future__ import annotations

from typing import Literal, Protocol

from bard_ray.errors import ConfigError
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
    """Writes a budget into the text of the last user message."""

    def encode(self, budget: Budget) -> str:
        """Text appended to the question; empty for `NoBudget`."""
        ...


class DigitsCodec:
    """`<budget>27</budget>`: always two digits, so that every budget has the same shape.

    Source: ours, tiny task.
    """

    def encode(self, budget: Budget) -> str:
        """Text appended to the question.

        Raises:
            ValueError: the budget is not a token budget in 0..99 or none.
        """
        if isinstance(budget, NoBudget):
            return ""
        limit = token_limit(budget)
        if limit is None or not 0 <= limit <= 99:
            msg = f"the digits codec writes token budgets 0..99, not {budget_label(budget)}"
            raise ValueError(msg)
        return f"<budget>{limit:02d}</budget>"


class SentenceCodec:
    """One English sentence.

    Source: wording ours, after L1's "maximum of N tokens" prompts (arXiv 2503.04697).
    """

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


def make_codec(name: CodecName) -> BudgetCodec:
    """Codec by its configuration name.

    Raises:
        ConfigError: no codec has that name.
    """
    codecs: dict[str, type[DigitsCodec] | type[SentenceCodec]] = {
        "digits": DigitsCodec,
        "sentence": SentenceCodec,
    }
    if name not in codecs:
        field, rule = "budget.codec", "is not a known codec"
        raise ConfigError(field, name, rule, f"Use one of {', '.join(codecs)}.")
    return codecs[name]()
