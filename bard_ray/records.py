"""The records that flow between roles: frozen, small, numpy arrays at most.

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


def budget_label(budget: Budget) -> str:
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


def parse_budget(text: str) -> Budget:
    """Inverse of `budget_label`.

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
    """One SFT row: a question, its budget, the chain between the think tags, the answer part.

    The budget is the one the chain was compressed to.
    """

    question: Question
    budget: Budget
    think: str
    answer_text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens of one origin.

    Attributes:
        role: who wrote it. `think` ends with the closing tag where the model wrote one; `forced`
            text was put in by a protocol and is never trained on.
        tokens_T: token ids.
        logprobs_T: behavior log-probs of the sampling distribution; 0 where nothing was sampled.
        mask_T: True where the token enters the loss.
        versions_T: weight version that sampled each token; -1 where nothing was sampled.
    """

    role: SegmentRole
    tokens_T: Ints
    logprobs_T: Floats
    mask_T: Bools
    versions_T: Ints


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled answer: prompt segment first, then what followed it.

    Attributes:
        thinking_tokens: tokens before the closing think tag, the tag itself not counted; all of
            them if it never came.
        closed: the closing think tag was reached.
        answer_text: decoded text after the closing tag, empty if it never came.
        answer_tokens: tokens after the closing tag, the end token not counted.
        extra_tags: think tags, opening or closing, among them.
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
    """What grading found. Only the first two are the policy's doing."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of grading one answer.

    It says what was extracted, which rule decided, and how long it took (wall seconds).
    """

    outcome: Outcome
    extracted: str = ""
    rule: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GradeItem:
    """One answer to grade: `text` is the part after the closing think tag."""

    text: str
    gold: str
    kind: AnswerKind


@dataclass(frozen=True, slots=True)
class ThinkPrefix:
    """A thought that is given rather than sampled: the model goes on behind it.

    Attributes:
        text: what it says, without think tags.
        closed: it is complete, so that the closing tag follows it and the answer is sampled.
    """

    text: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """Work asked of a sampler.

    Everything follows from `number`, so a restart asks for exactly the same work.

    Attributes:
        prefix: how every rollout's thought begins; its tokens are a `forced` segment behind the
            prompt and count as thinking.
    """

    number: int
    question: Question
    budgets: tuple[Budget, ...]
    seed: int
    prefix: ThinkPrefix | None = None


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """How to sample.

    top_p is 1 and top_k off by construction: else behavior log-probs are not the policy's.

    Attributes:
        force_budget: close the thinking span at the budget's token limit (budget forcing), by the
            engine itself.
        show_budget: write the budget into the prompt; off for students that were never taught to
            read one.
    """

    temperature: float = 1.0
    max_new_tokens: int = 64
    force_budget: bool = False
    show_budget: bool = True


class FailureKind(StrEnum):
    """Why a group has no rollouts to train on."""

    NO_ROOM = "no_room"  # the prompt leaves no room for an answer; no retry would help
    ABORTED = "aborted"  # its generation was ended early
    WORKER_LOST = "worker_lost"
    UNGRADED = "ungraded"  # grading failed, again and again
    SURPLUS = "surplus"  # enough groups before it were trainable


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a group failed: a kind that code can act on, and words for people."""

    kind: FailureKind
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class Group:
    """One question, G rollouts, and what the roles found out about them.

    A failed group is filed too: `failure` gives the reason and `rollouts` is empty.

    Attributes:
        rewards_G: one reward a rollout.
        segment_rewards: rewards of single segments, for rewards that have them: by role, [G, S]
            with column s for the s-th segment of that role; NaN where a rollout has none.
        advantage_shift_G: added to the advantages after normalization, for rewards that have it.
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

    Index t speaks of predicting token t from tokens < t; index 0 is never trained on.

    Attributes:
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
    """What one learner step reports.

    `values` maps metric name (see `bard_ray.metrics.TABLE`) to value, already reduced over ranks.
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
