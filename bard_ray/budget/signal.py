"""A thinking budget as a typed value, and the codecs that write it into a prompt.

"None" is a value of its own (unconstrained), never a magic number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from bard_ray.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """At most `tokens` thinking tokens, counted between the think tags on token ids."""

    tokens: int


@dataclass(frozen=True, slots=True)
class EffortBudget:
    """A fraction in (0, 1] of the effort the model would spend unconstrained."""

    fraction: float


@dataclass(frozen=True, slots=True)
class ModeBudget:
    """A named mode ("low", "high"); the configuration says what it means."""

    name: str


@dataclass(frozen=True, slots=True)
class TagBudget:
    """A literal control tag put into the prompt as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class NoBudget:
    """Unconstrained thinking: the prompt carries no budget and fidelity is 1."""


Budget = TokenBudget | EffortBudget | ModeBudget | TagBudget | NoBudget
NO_BUDGET = NoBudget()


def token_limit(budget: Budget) -> int | None:
    """Thinking-token limit of a budget; None where the budget names no number of tokens."""
    return budget.tokens if isinstance(budget, TokenBudget) else None


def label(budget: Budget) -> str:
    """Short text for tables, file names and metric keys.

    `27`, `effort=0.5`, `mode=low`, `tag=[Easy]`, `none`.
    """
    match budget:
        case TokenBudget(tokens):
            return str(tokens)
        case EffortBudget(fraction):
            return f"effort={fraction:g}"
        case ModeBudget(name):
            return f"mode={name}"
        case TagBudget(text):
            return f"tag={text}"
        case NoBudget():
            return "none"


def parse(text: str) -> Budget:
    """Inverse of `label`.

    Raises:
        ValueError: the text is no budget.
    """
    if text == "none":
        return NO_BUDGET
    key, _, value = text.partition("=")
    makers: dict[str, Callable[[str], Budget]] = {
        "effort": lambda v: EffortBudget(float(v)),
        "mode": ModeBudget,
        "tag": TagBudget,
    }
    return makers[key](value) if key in makers else TokenBudget(int(text))


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
            msg = f"the digits codec writes token budgets 0..99, not {label(budget)}"
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
        field, rule = "budget.codec", "is no known codec"
        raise ConfigError(field, name, rule, f"Use one of {', '.join(codecs)}.")
    return codecs[name]()
