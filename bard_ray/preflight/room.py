"""Length checks: prompt, thinking and answer of every budget against all length limits.

All lengths are in tokens.
"""

from __future__ import annotations

from bard_ray.budget.codec import make_codec
from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError
from bard_ray.preflight import needs
from bard_ray.preflight.bounds import Problems, get

# A thinking step takes at least this many tokens, so a smaller budget has no room for one.
SMALLEST_BUDGET = 2
# Tokens after the last thinking token: closing tag, answer and end token. Synthetic task:
# `</think> \boxed{ 7 }` and the end token; data sets: room for one boxed formula (ours).
ANSWER_TOKENS = {"chain": 5, "rows": 64}
# Minimum number of tokens before the first thinking token.
# Data sets: a short question with its chat template (ours).
ROWS_PROMPT_TOKENS = 64
GOLD_STEP_TOKENS = 3  # of the synthetic task: letter, operation and value


def prompt_tokens(config: Config) -> int:
    """Tokens of the longest prompt; for data sets, the expected minimum.

    A chain of N operations is written as 1 + 2N + 1 tokens, then 3 for the budget and 1 for the
    open think tag.
    """
    if config.data.source == "rows":
        return ROWS_PROMPT_TOKENS
    return 2 * config.data.chain.max_ops + 6


def limits(config: Config) -> dict[str, float]:
    """The largest thinking budget that each length limit allows, by field."""
    answer = ANSWER_TOKENS[config.data.source]
    found: dict[str, float] = {
        "student.max_len": config.student.max_len - prompt_tokens(config) - answer,
        "budget.codec": make_codec(config.budget.codec).largest,
    }
    found |= {field: get(config, field) - answer for field in _completion_limits(config)}
    return {field: max(fits, 0) for field, fits in found.items()}


def _completion_limits(config: Config) -> list[str]:
    """Fields that limit the completions of this run; a smoke test samples like the evaluation."""
    used = {
        "evaluate.max_new_tokens": needs.evaluates(config) or needs.has_smoke_test(config),
        "rl.max_new_tokens": needs.runs_rl(config),
    }
    return [field for field, limits_some in used.items() if limits_some]


def _budget_lists(config: Config) -> dict[str, list[int]]:
    """The budgets that this run uses, by field."""
    lists = {"budget.train": config.budget.train, "budget.held_out": config.budget.held_out}
    if needs.evaluates(config):
        lists["evaluate.budgets"] = config.evaluate.budgets
    return lists


def lengths_for(config: Config, budget: int) -> dict[str, int]:
    """Minimum values of the length fields for which a budget fits; other fields are unchanged.

    Each field counts as the larger of its value and its minimum, so that setting all of them at
    once leaves none too small for another.
    """
    answer, data = ANSWER_TOKENS[config.data.source], config.data
    new = dict.fromkeys(_completion_limits(config), budget + answer)
    longest = [prompt_tokens(config) + budget + answer]
    if data.source == "chain":
        longest.append(prompt_tokens(config) + GOLD_STEP_TOKENS * data.chain.max_ops + answer)
    longest += [max(least, int(get(config, field))) + 1 for field, least in new.items()]
    max_len = max(longest)
    pack_len = max(max_len, config.student.max_len)
    micro_tokens = max(pack_len, config.learner.pack_len)
    lengths = {"student.max_len": max_len, **new}
    return lengths | {"learner.pack_len": pack_len, "learner.micro_tokens": micro_tokens}


def too_small(config: Config, budget: int) -> dict[str, int]:
    """The entries of `lengths_for` that exceed the field's current value."""
    needed = lengths_for(config, budget)
    return {field: least for field, least in needed.items() if get(config, field) < least}


def budget_problems(config: Config) -> Problems:
    """Budgets below the minimum, and budgets that exceed a length limit.

    The fix makes room for the largest budget of all lists, so that one edit fixes all of them.
    """
    lists = _budget_lists(config)
    room = limits(config)
    largest = int(min(room.values()))
    for field, budgets in lists.items():
        bad = [b for b in budgets if not SMALLEST_BUDGET <= b <= largest]
        if bad:
            rule = f"every budget must be between {SMALLEST_BUDGET} and {largest} tokens"
            if largest < SMALLEST_BUDGET:
                rule = "no budget fits the limits of length"
            yield ConfigError(field, bad, rule + _why(config, max(bad), room), _fix(config, lists))


def _why(config: Config, budget: int, room: dict[str, float]) -> str:
    """The limits that a budget exceeds, tightest first."""
    tight = sorted((fits, field) for field, fits in room.items() if fits < budget)
    if not tight:
        return ", so that there is room for a step"
    shown = [f"{field}={_value(config, field)} has room for {int(fits)}" for fits, field in tight]
    return f": {', '.join(shown)}"


def _fix(config: Config, lists: dict[str, list[int]]) -> str:
    """The overrides that make room for the largest budget of all lists."""
    budget = max(max(budgets, default=0) for budgets in lists.values())
    codec = make_codec(config.budget.codec)
    if budget > codec.largest and config.student.path == "tiny":
        return f"The tiny student supports budgets of at most {codec.largest:g} tokens."
    settings = [f"{field}={least}" for field, least in too_small(config, budget).items()]
    if budget > codec.largest:
        settings.append("budget.codec=sentence")
    if not settings:
        return "Change the budget."
    return f"Change the budget, or make room for {budget} tokens: {' '.join(settings)}."


def _value(config: Config, field: str) -> object:
    return config.budget.codec if field == "budget.codec" else f"{get(config, field):g}"


def length_problems(config: Config) -> Problems:
    """Length limits that contradict each other, independent of the budgets."""
    student, learner = config.student, config.learner
    largest = max(max(budgets, default=0) for budgets in _budget_lists(config).values())
    needed = lengths_for(config, largest)
    if config.data.source == "chain":
        yield from _shorter_than_chains(config, needed["student.max_len"])
    pairs = (
        ("learner.pack_len", learner.pack_len, "student.max_len", student.max_len, "a sequence"),
        (
            "learner.micro_tokens",
            learner.micro_tokens,
            "learner.pack_len",
            learner.pack_len,
            "a row",
        ),
    )
    for field, value, other, least, what in pairs:
        if value < least:
            rule = f"must hold {what} of {other} ({least}) tokens"
            yield ConfigError(field, value, rule, f"Set {field}={needed[field]} or more.")
    for field in ("rl.max_new_tokens", "evaluate.max_new_tokens"):
        if field in needed and get(config, field) >= student.max_len:
            rule = f"leaves no room for a prompt in student.max_len ({student.max_len})"
            fix = f"Lower it, or set student.max_len={needed['student.max_len']} or more."
            yield ConfigError(field, int(get(config, field)), rule, fix)


def _shorter_than_chains(config: Config, needed: int) -> Problems:
    steps = GOLD_STEP_TOKENS * config.data.chain.max_ops
    longest = prompt_tokens(config) + steps + ANSWER_TOKENS["chain"]
    if config.student.max_len < longest:
        rule = f"is shorter than the longest teacher chain, {longest} tokens"
        fix = f"Set student.max_len={needed} or more, or lower data.chain.max_ops."
        yield ConfigError("student.max_len", config.student.max_len, rule, fix)
