"""The teacher of the synthetic task: it computes, and makes mistakes where it is told to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bard_ray.data.chain import LETTERS, Chain, answer_text, apply_op, chain_of, step_text
from bard_ray.distill.identity import digest
from bard_ray.distill.teacher import TEACHERS, Ended, Host, Reply, TeacherRequest
from bard_ray.errors import ConfigError
from bard_ray.plugins import require_within

VERBOSE_TOKENS = 3  # letter, operation, value
_STEP = re.compile(r"([a-z])([+\-*][0-9])?([0-9])")
_BEGUN = re.compile(r"([a-z])([+\-*][0-9])?")  # a step that was cut off before its value
_TOKEN = re.compile(r"[+\-*][0-9]|\\boxed\{|</?think>|.", re.DOTALL)
_CLOSE, _EOS = "</think>", "<eos>"


@TEACHERS.register("exact")
@dataclass(frozen=True)
class Exact:
    """Chains of the synthetic task, worked out step by step, good or bad as the parameters say.

    For operations a..n on a running value modulo 10 it writes a step an operation, `a+19`, and puts
    the last value in the box. What it writes follows from its parameters, the ask's seed and the
    question alone; the temperature plays no part. With all parameters at their defaults it is clean
    and writes the one gold chain, 3N tokens for N operations. Source: ours (tiny task).

    Attributes:
        slip: s, probability that a result is replaced by one of the other nine digits. The error is
            carried on. With operations that keep different values apart (+c, -c, *1, *3, *7, *9)
            the answer is right with probability 1/10 + 9/10 (1 - 10 s / 9)^N.
        skip: probability that a step, the last one excepted, is done in the head: N steps become
            1 + (N - 1)(1 - skip) on average. A slip can happen there too.
        plain: probability that a step is written without its operation, `a9`: 2 tokens, not 3.
        recheck: r, probability that a step is worked out and written once more, again and again:
            1 / (1 - r) times on average. The last result counts, so a recheck mends a slip as often
            as it makes one, and the answer is right as often as without.
        wander: probability that, before a step, an earlier one is written again, drawn uniformly
            from those written: (N - 1) * wander times on average.
        max_think_tokens: rechecks and wandering stop where the whole thought would get longer. The
            steps themselves are always written. The default leaves room for the longest prompt of
            14 operations and the answer in 128 tokens.
    """

    slip: float = 0.0
    skip: float = 0.0
    plain: float = 0.0
    recheck: float = 0.0
    wander: float = 0.0
    max_think_tokens: int = 72

    def __post_init__(self) -> None:
        for name in ("slip", "skip", "plain", "recheck", "wander"):
            require_within(name, getattr(self, name), 0, 1)
        require_within("max_think_tokens", self.max_think_tokens, 1)

    async def open(self, name: str, host: Host) -> ExactTeacher:
        """Ready at once; nothing of the host is used."""
        return ExactTeacher(name, self)


class ExactTeacher:
    """Answers asks that come from questions of the synthetic task."""

    def __init__(self, name: str, style: Exact) -> None:
        self._name, self._style = name, style
        self._counters: Counter[str] = Counter(asked=0, prompt_tokens=0, completion_tokens=0)

    async def reply(self, ask: TeacherRequest) -> Reply:
        """Thought and answer; where the ask gives a thought, what follows it.

        A thought that is closed is answered with the value of the farthest step it came to, or with
        the start value if it has no step. One that is open goes on behind that step; a step that
        was cut off before its value is ended first.

        Raises:
            ConfigError: the ask comes from no question of the synthetic task.
        """
        chain = self._chain(ask)
        given = ask.think or ""
        think, answer = self._write(chain, given, ask)
        prompt = [*_tokens("".join(message.content for message in ask.messages)), "<think>"]
        prompt += _tokens(given) + [_CLOSE] * ask.close_think
        reply = _cut(think, answer, ask, len(prompt))
        self._counters.update(
            asked=1, prompt_tokens=len(prompt), completion_tokens=reply.completion_tokens
        )
        return reply

    def counters(self) -> Mapping[str, float]:
        """Asks answered, and tokens as the tiny tokenizer counts them."""
        return dict(self._counters)

    async def close(self) -> None:
        """Nothing is held."""

    def _chain(self, ask: TeacherRequest) -> Chain:
        if ask.question is None or not {"start", "ops"} <= ask.question.meta.keys():
            what = "an ask without a question" if ask.question is None else ask.question.id
            rule = f"only answers questions of the synthetic task, not {what}"
            fix = "Use data.source=chain, or a teacher with another backend."
            raise ConfigError(f"distill.teachers.{self._name}.backend", "exact", rule, fix)
        return chain_of(ask.question)

    def _write(self, chain: Chain, given: str, ask: TeacherRequest) -> tuple[str, str]:
        """What it adds to the given thought, and the value it then puts in the box."""
        seed = int(digest([ask.seed, chain.text, given]), 16)
        writer = _Writer(self._style, chain, np.random.default_rng(seed), len(_tokens(given)))
        writer.read(given)
        if not ask.close_think:
            writer.finish(given)
        return "".join(writer.parts), str(writer.value)


@dataclass
class _Writer:
    """A thought while it is written.

    Attributes:
        num_tokens: its length so far, what was given included.
        results: value of each step that was written; the later writing counts.
        parts: what was written here.
    """

    style: Exact
    chain: Chain
    generator: np.random.Generator
    num_tokens: int
    results: dict[int, int] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    @property
    def value(self) -> int:
        """Value of the farthest step."""
        return self.results[max(self.results)] if self.results else self.chain.start

    def read(self, given: str) -> None:
        """Take over the steps of a given thought."""
        for letter, _, value in _STEP.findall(given):
            if (step := LETTERS.index(letter)) < len(self.chain.ops):
                self.results[step] = int(value)

    def finish(self, given: str) -> None:
        """Write all steps that are missing behind the farthest one."""
        self._end_begun(given)
        last = len(self.chain.ops) - 1
        for step in range(max(self.results, default=-1) + 1, last + 1):
            if step < last and self._happens(self.style.skip):
                continue
            left = VERBOSE_TOKENS * (last + 1 - step)
            if self.results and self._happens(self.style.wander) and self._room(left):
                self._add(int(self.generator.choice(sorted(self.results))), verbose=True)
            self._work_out(step)
            while self._happens(self.style.recheck) and self._room(left - VERBOSE_TOKENS):
                self._work_out(step)

    def _end_begun(self, given: str) -> None:
        ends = [match.end() for match in _STEP.finditer(given)]
        begun = _BEGUN.fullmatch(given, ends[-1] if ends else 0)
        if not begun or (step := LETTERS.index(begun[1])) >= len(self.chain.ops):
            return
        value = self._compute(step)
        text = step_text(self.chain, step, value, verbose=True)
        if text.startswith(begun[0]):
            self.results[step] = value
            self.parts.append(text.removeprefix(begun[0]))
            self.num_tokens += len(_tokens(self.parts[-1]))

    def _work_out(self, step: int) -> None:
        self.results[step] = self._compute(step)
        self._add(step, verbose=not self._happens(self.style.plain))

    def _compute(self, step: int) -> int:
        """Value of a step from the nearest one before it that was written."""
        before = max((s for s in self.results if s < step), default=-1)
        value = self.results.get(before, self.chain.start)
        for op in self.chain.ops[before + 1 : step + 1]:
            value = apply_op(value, op)
            if self._happens(self.style.slip):
                value = (value + int(self.generator.integers(1, 10))) % 10
        return value

    def _add(self, step: int, *, verbose: bool) -> None:
        self.parts.append(step_text(self.chain, step, self.results[step], verbose=verbose))
        self.num_tokens += VERBOSE_TOKENS - (not verbose)

    def _room(self, left: int) -> bool:
        """Whether one more step fits beside the tokens that the missing ones may take."""
        return self.num_tokens + VERBOSE_TOKENS + left <= self.style.max_think_tokens

    def _happens(self, probability: float) -> bool:
        return bool(self.generator.random() < probability)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _cut(think: str, answer: str, ask: TeacherRequest, prompt_tokens: int) -> Reply:
    """The reply, as far as `max_tokens` allow."""
    whole = [] if ask.close_think else [*_tokens(think), _CLOSE]
    whole += [*_tokens(answer_text(answer)), _EOS]
    written = whole[: max(0, ask.max_tokens)]
    text = "".join(written).removesuffix(_EOS)
    thought, answered = ("", text) if ask.close_think else text.partition(_CLOSE)[::2]
    ended: Ended = "stop" if len(written) == len(whole) else "length"
    return Reply(thought, answered, ended, "", prompt_tokens, len(written))
