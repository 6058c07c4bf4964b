"""The teacher of the synthetic task: it computes, with configurable mistakes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from bard_ray.data.chain import LETTERS, Chain, answer_text, apply_op, chain_of, step_text
from bard_ray.distill.identity import digest
from bard_ray.distill.teacher import TEACHERS, Host, Reply, ReplyFinish, TeacherRequest
from bard_ray.errors import ConfigError
from bard_ray.plugins import require_within

VERBOSE_TOKENS = 3  # letter, operation, value
_STEP = re.compile(r"([a-z])([+\-*][0-9])?([0-9])")
_PARTIAL = re.compile(r"([a-z])([+\-*][0-9])?")  # a step that was truncated before its value
_TOKEN = re.compile(r"[+\-*][0-9]|\\boxed\{|</?think>|.", re.DOTALL)
_CLOSE, _EOS = "</think>", "<eos>"


@TEACHERS.register("exact")
@dataclass(frozen=True)
class ExactBackend:
    """Chains of the synthetic task, computed step by step, with errors and detours by parameter.

    For operations a..n on a running value modulo 10 it writes one step per operation, `a+19`, and
    puts the last value in the box. Its text depends on its parameters, the request's seed and the
    question only, not on the temperature. With default parameters it makes no mistakes and writes
    the gold chain, 3N tokens for N operations. Source: ours (tiny task).

    Attributes:
        slip: s, probability that a result is replaced by one of the other nine digits. Later steps
            use the wrong value. With operations that map different values to different values (+c,
            -c, *1, *3, *7, *9) the answer is correct with probability
            1/10 + 9/10 (1 - 10 s / 9)^N.
        skip: probability that a step other than the last one is computed but not written: N steps
            become 1 + (N - 1)(1 - skip) on average. A slip can happen there too.
        plain: probability that a step is written without its operation, `a9`: 2 tokens, not 3.
        recheck: r, probability that a step is computed and written once more, repeatedly:
            1 / (1 - r) times on average. The last result counts, so a recheck fixes a slip as often
            as it makes one, and the accuracy is the same as without.
        wander: probability that, before a step, an earlier one is written again, drawn uniformly
            from those written: (N - 1) * wander times on average.
        max_think_tokens: rechecks and wandering stop where the chain would get longer. The steps
            themselves are always written. The default leaves room for the longest prompt of 14
            operations and the answer in 128 tokens.
    """

    SYNTHETIC_ONLY: ClassVar[bool] = True

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
        """Ready immediately; the host is not used."""
        return ExactTeacher(name, self)


class ExactTeacher:
    """Answers requests made from questions of the synthetic task."""

    def __init__(self, name: str, style: ExactBackend) -> None:
        self._name, self._style = name, style
        self._counters: Counter[str] = Counter(requests=0, prompt_tokens=0, completion_tokens=0)

    async def reply(self, request: TeacherRequest) -> Reply:
        """Thinking and answer; where the request has a think prefix, what follows it.

        After a closed prefix the answer is the value of its last step, or the start value if it has
        no step. An open prefix is continued after that step; a step that was truncated before its
        value is completed first.

        Raises:
            ConfigError: the request has no question of the synthetic task.
        """
        chain = self._chain(request)
        prefix = request.think or ""
        think, answer = self._write(chain, prefix, request)
        prompt = [*_tokens("".join(message.content for message in request.messages)), "<think>"]
        prompt += _tokens(prefix) + [_CLOSE] * request.close_think
        reply = _truncated(think, answer, request, len(prompt))
        self._counters.update(
            requests=1, prompt_tokens=len(prompt), completion_tokens=reply.completion_tokens
        )
        return reply

    def counters(self) -> Mapping[str, float]:
        """Requests, and tokens as the tiny tokenizer counts them."""
        return dict(self._counters)

    async def close(self) -> None:
        """Nothing to release."""

    def _chain(self, request: TeacherRequest) -> Chain:
        if request.question is None or not {"start", "ops"} <= request.question.meta.keys():
            what = (
                "a request without a question"
                if request.question is None
                else (request.question.id)
            )
            rule = f"only answers questions of the synthetic task, not {what}"
            fix = "Use data.source=chain, or a teacher with another backend."
            raise ConfigError(f"distill.teachers.{self._name}.backend", "exact", rule, fix)
        return chain_of(request.question)

    def _write(self, chain: Chain, prefix: str, request: TeacherRequest) -> tuple[str, str]:
        """What it adds to the think prefix, and the value that it then puts in the box."""
        seed = int(digest([request.seed, chain.text, prefix]), 16)
        writer = _ChainWriter(self._style, chain, np.random.default_rng(seed), len(_tokens(prefix)))
        writer.read(prefix)
        if not request.close_think:
            writer.finish(prefix)
        return "".join(writer.parts), str(writer.value)


@dataclass
class _ChainWriter:
    """A chain while it is written.

    Attributes:
        style: parameters of the teacher.
        chain: the question, parsed.
        generator: of this chain.
        num_tokens: its length so far, the prefix included.
        results: value of each step that was written; the latest one counts.
        parts: texts written after the prefix.
    """

    style: ExactBackend
    chain: Chain
    generator: np.random.Generator
    num_tokens: int
    results: dict[int, int] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    @property
    def value(self) -> int:
        """Value of the last step."""
        return self.results[max(self.results)] if self.results else self.chain.start

    def read(self, prefix: str) -> None:
        """Read the steps of a think prefix."""
        for letter, _, value in _STEP.findall(prefix):
            if (step := LETTERS.index(letter)) < len(self.chain.ops):
                self.results[step] = int(value)

    def finish(self, prefix: str) -> None:
        """Write all steps after the last one."""
        self._complete_step(prefix)
        last = len(self.chain.ops) - 1
        for step in range(max(self.results, default=-1) + 1, last + 1):
            if step < last and self._happens(self.style.skip):
                continue
            left = VERBOSE_TOKENS * (last + 1 - step)
            if self.results and self._happens(self.style.wander) and self._room(left):
                self._add(int(self.generator.choice(sorted(self.results))), verbose=True)
            self._write_step(step)
            while self._happens(self.style.recheck) and self._room(left - VERBOSE_TOKENS):
                self._write_step(step)

    def _complete_step(self, prefix: str) -> None:
        """Complete a step at the end of the prefix that was truncated before its value."""
        ends = [match.end() for match in _STEP.finditer(prefix)]
        partial = _PARTIAL.fullmatch(prefix, ends[-1] if ends else 0)
        if not partial or (step := LETTERS.index(partial[1])) >= len(self.chain.ops):
            return
        value = self._compute(step)
        text = step_text(self.chain, step, value, verbose=True)
        if text.startswith(partial[0]):
            self.results[step] = value
            self.parts.append(text.removeprefix(partial[0]))
            self.num_tokens += len(_tokens(self.parts[-1]))

    def _write_step(self, step: int) -> None:
        self.results[step] = self._compute(step)
        self._add(step, verbose=not self._happens(self.style.plain))

    def _compute(self, step: int) -> int:
        """Value of a step, computed from the nearest earlier one that was written."""
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
        """Whether one more step fits besides the tokens that the missing ones may take."""
        return self.num_tokens + VERBOSE_TOKENS + left <= self.style.max_think_tokens

    def _happens(self, probability: float) -> bool:
        return bool(self.generator.random() < probability)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _truncated(think: str, answer: str, request: TeacherRequest, prompt_tokens: int) -> Reply:
    """The reply, truncated to `max_tokens`."""
    whole = [] if request.close_think else [*_tokens(think), _CLOSE]
    whole += [*_tokens(answer_text(answer)), _EOS]
    written = whole[: max(0, request.max_tokens)]
    text = "".join(written).removesuffix(_EOS)
    thinking, answered = ("", text) if request.close_think else text.partition(_CLOSE)[::2]
    finish: ReplyFinish = "stop" if len(written) == len(whole) else "length"
    return Reply(thinking, answered, finish, "", prompt_tokens, len(written))
