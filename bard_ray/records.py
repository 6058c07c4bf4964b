"""The records that the roles exchange: small frozen dataclasses of plain values and numpy arrays.

Axis letters, here and everywhere: T tokens of one segment or sequence, G rollouts of a group, B
sequences of a batch, R rows of a packed micro-batch, V vocabulary. Token ids are int32, log-probs
float32, masks bool, versions int32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

AnswerKind = str  # a name in `bard_ray.verify.kinds`
SegmentRole = Literal["prompt", "think", "answer", "forced"]
Finish = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """At most `tokens` thinking tokens: token ids between the think tags."""

    tokens: int


@dataclass(frozen=True, slots=True)
class EffortBudget:
    """A fraction, above 0 and at most 1, of the effort that the model spends unconstrained."""

    fraction: float


@dataclass(frozen=True, slots=True)
class ModeBudget:
    """A named mode ("low", "high"); its meaning is configured."""

    name: str


@dataclass(frozen=True, slots=True)
class TagBudget:
    """A literal control tag, put into the prompt unchanged."""

    text: str


@dataclass(frozen=True, slots=True)
class NoBudget:
    """Unconstrained thinking: the prompt carries no budget and fidelity is 1."""


Budget = TokenBudget | EffortBudget | ModeBudget | TagBudget | NoBudget
NO_BUDGET = NoBudget()


def token_limit(budget: Budget) -> int | None:
    """Thinking-token limit of a budget; None where the budget names no number of tokens."""
    return budget.tokens if isinstance(budget, TokenBudget) else None


def budget_label(budget: Budget) -> str:
    """Short text for tables, file names and metric keys.

    Examples: `27`, `effort=0.5`, `mode=low`, `tag=[Easy]`, `none`.
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


def parse_budget(text: str) -> Budget:
    """Inverse of `budget_label`.

    Raises:
        ValueError: the text is not a budget.
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


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its gold answer; `meta` holds plain JSON values only."""

    id: str
    messages: tuple[Message, ...]
    answer: str
    kind: AnswerKind = "math"
    source: str = ""
    meta: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DistillRow:
    """One SFT row: a question, the budget its chain was compressed to, thinking, answer part.

    Attributes:
        think: the chain between the think tags.
        answer_text: the part after the closing tag.
    """

    question: Question
    budget: Budget
    think: str
    answer_text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens of one origin.

    Attributes:
        role: the origin. `think` ends with the closing tag if the model wrote it; `forced` tokens
            were inserted by a protocol and are never trained on.
        tokens_T: token ids.
        logprobs_T: log-probs under the sampling distribution (behavior log-probs); 0 for tokens
            that were not sampled.
        mask_T: True where the token enters the loss.
        versions_T: weight version that sampled each token; -1 for tokens that were not sampled.
    """

    role: SegmentRole
    tokens_T: Ints
    logprobs_T: Floats
    mask_T: Bools
    versions_T: Ints


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled completion: the prompt segment, then the segments of the completion.

    Attributes:
        finish: why sampling ended.
        thinking_tokens: tokens before the closing think tag, without the tag; all completion tokens
            if there is no closing tag.
        closed: there is a closing think tag.
        answer_text: decoded text after the closing tag; empty if there is none.
        answer_tokens: tokens after the closing tag, without the end token.
        extra_tags: think tags, opening or closing, among the answer tokens.
    """

    budget: Budget
    segments: tuple[Segment, ...]
    finish: Finish
    thinking_tokens: int
    closed: bool
    answer_text: str
    answer_tokens: int = 0
    extra_tags: int = 0

    @property
    def completion_tokens(self) -> int:
        """Tokens after the prompt."""
        return sum(s.tokens_T.size for s in self.segments if s.role != "prompt")


class Outcome(StrEnum):
    """Result of grading. `BROKEN` is an infrastructure failure, not a property of the answer."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of grading one answer.

    Attributes:
        outcome: the result.
        extracted: the answer that was found in the text.
        rule: the rule that decided.
        seconds: wall time of grading.
    """

    outcome: Outcome
    extracted: str = ""
    rule: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GradeItem:
    """One answer to grade.

    Attributes:
        text: the part after the closing think tag.
        gold: the gold answer.
        kind: how the two are compared; see `bard_ray.verify.kinds`.
    """

    text: str
    gold: str
    kind: AnswerKind


@dataclass(frozen=True, slots=True)
class ThinkPrefix:
    """The start of the thinking, set by the request; the model continues after it.

    Attributes:
        text: the thinking, without think tags.
        closed: the thinking is complete: the closing tag follows and only the answer is sampled.
    """

    text: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """A request for the G rollouts of one group.

    In training everything follows from `number`, so a resumed run requests exactly the same groups.

    Attributes:
        number: admission number.
        budgets: one for each rollout, [G].
        seed: sampling seed of the group.
        prefix: think prefix of every rollout; its tokens are a `forced` segment after the prompt
            and count as thinking tokens.
    """

    number: int
    question: Question
    budgets: tuple[Budget, ...]
    seed: int
    prefix: ThinkPrefix | None = None


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """Sampling settings.

    There are no fields for top_p and top_k: they are off, since otherwise the behavior log-probs
    would not be those of the policy.

    Attributes:
        temperature: sampling temperature; 0 is greedy.
        max_new_tokens: completion tokens at most.
        force_budget: budget forcing: the engine closes the thinking span at the budget's limit.
        show_budget: write the budget into the prompt; off for students that were not trained to
            read it.
    """

    temperature: float = 1.0
    max_new_tokens: int = 64
    force_budget: bool = False
    show_budget: bool = True


class FailureKind(StrEnum):
    """Why a group has no rollouts to train on."""

    NO_ROOM = "no_room"  # the prompt leaves no room for a completion; a retry would not help
    ABORTED = "aborted"  # its generation was aborted
    WORKER_LOST = "worker_lost"
    UNGRADED = "ungraded"  # grading failed, retries included
    SURPLUS = "surplus"  # enough groups before it were trainable


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a group failed: a kind for code to act on, and a text for people."""

    kind: FailureKind
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class Group:
    """One question, its G rollouts, and their verdicts, rewards and reference log-probs.

    A failed group is a record too: `failure` gives the reason and `rollouts` is empty.

    Attributes:
        rewards_G: one reward per rollout.
        segment_rewards: rewards of single segments, if the reward gives any: by role, [G, S] with
            column s for the s-th segment of that role; NaN where a rollout has no such segment.
        advantage_shift_G: added to the advantages after normalization, if the reward gives it.
        reference_logprobs: one array [T] per rollout, where the loss needs them.
        failure: why there are no rollouts; None if there are.
    """

    request: GroupRequest
    rollouts: tuple[Rollout, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    rewards_G: Floats | None = None
    segment_rewards: Mapping[SegmentRole, Floats] = field(default_factory=dict)
    advantage_shift_G: Floats | None = None
    reference_logprobs: tuple[Floats, ...] = ()
    failure: Failure | None = None

    @property
    def number(self) -> int:
        """Admission number."""
        return self.request.number


@dataclass(frozen=True, slots=True)
class TrainSequence:
    """One sequence as the learner sees it; all arrays have the sequence's length T.

    Index t refers to the prediction of token t from tokens < t; index 0 is never trained on.

    Attributes:
        tokens_T: token ids, prompt included.
        mask_T: tokens that enter the loss.
        advantages_T: per-token advantage (RL), or None (SFT).
        behavior_T: behavior log-probs (RL), or None.
        reference_T: reference log-probs (when a KL term needs them), or None.
        budget_bin: which of `bard_ray.metrics.BINS` its statistics belong to (RL).
    """

    tokens_T: Ints
    mask_T: Bools
    advantages_T: Floats | None = None
    behavior_T: Floats | None = None
    reference_T: Floats | None = None
    budget_bin: int = 0


@dataclass(frozen=True, slots=True)
class StepStats:
    """Metrics of one learner step.

    `values` maps names of `bard_ray.metrics.TABLE` to values, already reduced over ranks.
    """

    values: Mapping[str, float]


__all__ = [
    "NO_BUDGET",
    "AnswerKind",
    "Bools",
    "Budget",
    "DistillRow",
    "Failure",
    "FailureKind",
    "Finish",
    "Floats",
    "GradeItem",
    "Group",
    "GroupRequest",
    "Ints",
    "Message",
    "Outcome",
    "Question",
    "Rollout",
    "SamplingSpec",
    "Segment",
    "SegmentRole",
    "StepStats",
    "ThinkPrefix",
    "TrainSequence",
    "Verdict",
]
