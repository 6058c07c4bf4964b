"""Runs the steps of the data pipeline: chunk by chunk, several at a time, each kept on disk.

Steps form a chain of generators. A step takes chunks from the one before, has up to `ahead` of them
in work, and passes on finished ones in order; it takes no more until the next step does, so what
is in memory is bounded whatever the speeds. A finished chunk is on disk before it is handed on. A
step that was completed before is read; so are its finished chunks if it was not.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bard_ray.distill.filter import Candidate, Judged
from bard_ray.distill.identity import as_json, digest, identity
from bard_ray.distill.step import FINGERPRINT_INPUTS, Step, Tools
from bard_ray.distill.store import FORMAT, StepFacts, StepStore, fingerprint, kept, tally
from bard_ray.distill.table import read_judged
from bard_ray.errors import InvariantError

SOURCE_QUESTIONS = 256  # of a chunk of the source

OnProgress = Callable[[float, str], None]  # share done in [0, 1], the step at work


@dataclass(frozen=True)
class RecordSource:
    """Where records come from.

    Attributes:
        key: digest of what they follow from.
        questions: how many there are.
        read: gives them all, question by question.
    """

    key: str
    questions: int
    read: Callable[[], Iterable[Candidate]]


class BusyClock:
    """Wall time in which at least one of several overlapping pieces of work was running."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._running, self._counted_to = clock, 0, 0.0

    def start(self) -> None:
        """A piece of work begins."""
        if not self._running:
            self._counted_to = self._clock()
        self._running += 1

    def stop(self) -> float:
        """A piece of work ends; returns the seconds not returned before, so that they add up."""
        since, self._counted_to = self._counted_to, self._clock()
        self._running -= 1
        return self._counted_to - since


@dataclass
class Node:
    """A step in its place."""

    name: str
    step: Step
    identity: dict[str, Any]
    store: StepStore
    facts: StepFacts
    clock: BusyClock = field(default_factory=BusyClock)
    done: bool = False
    kept_questions: int = 0


@dataclass
class Pipeline:
    """Steps over a source.

    Attributes:
        root: of the store.
        source: where records come from.
        steps: name and step, in order.
        tools: what steps may use.
        matters: values of `step.FINGERPRINT_INPUTS`: what outputs follow from, as JSON.
        ahead: chunks of a step in work at a time.
        on_progress: called as chunks are finished.
    """

    root: Path
    source: RecordSource
    steps: Sequence[tuple[str, Step]]
    tools: Tools
    matters: Mapping[str, Any]
    ahead: int = 4
    on_progress: OnProgress = lambda share, step: None
    nodes: list[Node] = field(init=False)

    def __post_init__(self) -> None:
        """Work out the key of every step."""
        self.nodes, key = [], self.source.key
        for name, step in self.steps:
            what = _identity(step, self.matters)
            key = digest([FORMAT, what, key])
            facts = StepFacts(name, key)
            self.nodes.append(Node(name, step, what, StepStore(self.root, name, key), facts))

    async def run(self) -> list[StepFacts]:
        """Do what is not done yet; returns what every step did."""
        first = self._resume()
        stream = self._input(first)
        for node in self.nodes[first:]:
            stream = self._flow(node, stream)
        async with aclosing(stream) as last:
            async for _ in last:
                self._report()
        self._report()
        return [node.facts for node in self.nodes]

    def records(self, after: int = -1) -> Iterator[Candidate]:
        """What a step kept, once `run` is through; -1 is the last one.

        Raises:
            DataError: its files are gone.
        """
        if not self.nodes:
            yield from self.source.read()
            return
        node = self.nodes[after]
        yield from itertools.chain.from_iterable(node.store.read(node.facts.parts))

    def judged(self) -> Iterator[Judged]:
        """All records of the last step with the reasons they are out for, once `run` is through.

        Raises:
            DataError: its files are gone.
        """
        node = self.nodes[-1]
        for index in range(node.facts.parts):
            yield from read_judged(node.store.data_path(index))

    def _resume(self) -> int:
        """Index of the first step that is not complete; facts of those before are filled in."""
        complete = [node.store.complete() for node in self.nodes]
        first = next((i for i, facts in enumerate(complete) if facts is None), len(self.nodes))
        # A complete step needs nothing of those before it; their facts are for the report.
        for node, facts in zip(self.nodes[:first], complete, strict=False):
            assert facts is not None  # noqa: S101 by the choice of `first`
            node.facts, node.done = facts, True
        return first

    async def _input(self, first: int) -> AsyncGenerator[list[Candidate]]:
        """Chunks that the first step to do works on."""
        if first == len(self.nodes) > 0:
            return
        if first > 0:
            node = self.nodes[first - 1]
            for part in node.store.read(node.facts.parts):
                yield part
            return
        groups = _by_question(self.source.read())
        while chunk := list(itertools.islice(groups, SOURCE_QUESTIONS)):
            yield list(itertools.chain.from_iterable(chunk))
            await asyncio.sleep(0)

    async def _flow(
        self, node: Node, source: AsyncGenerator[list[Candidate]]
    ) -> AsyncGenerator[list[Candidate]]:
        """Kept records of one step, chunk by chunk, in order."""
        pending: deque[asyncio.Task[tuple[StepFacts, list[Candidate]]]] = deque()
        try:
            async with aclosing(_chunks(source, node.step.questions)) as chunks:
                index = 0
                async for chunk in chunks:
                    pending.append(asyncio.create_task(self._part(node, index, chunk)))
                    index += 1
                    while len(pending) >= self.ahead:
                        yield await self._next(node, pending)
            while pending:
                yield await self._next(node, pending)
            node.done = True
            node.store.finish(node.identity, node.facts)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _next(
        self, node: Node, pending: deque[asyncio.Task[tuple[StepFacts, list[Candidate]]]]
    ) -> list[Candidate]:
        """Wait for the oldest chunk in work."""
        facts, records = await pending[0]
        pending.popleft()
        node.facts = node.facts.plus(facts)
        node.kept_questions += len({record.question.id for record in records})
        self._report()
        return records

    async def _part(
        self, node: Node, index: int, records: list[Candidate]
    ) -> tuple[StepFacts, list[Candidate]]:
        """One chunk: found on disk, or made and put there."""
        source = fingerprint(records)
        found = await asyncio.to_thread(node.store.part, index, source)
        if found is not None:
            return found[0], kept(found[1])
        started = time.monotonic()
        node.clock.start()
        try:
            judged = await node.step.run(records, self.tools)
        finally:
            added_s = node.clock.stop()
        facts = tally(node.name, node.store.key, records, judged)
        alone = replace(facts, seconds=round(time.monotonic() - started, 4))
        await asyncio.to_thread(node.store.write_part, index, source, judged, alone)
        return replace(facts, seconds=round(added_s, 4)), kept(judged)

    def _report(self) -> None:
        """Share of the work, each step weighing the same; what is still to come is estimated."""
        expected, shares, at_work = float(self.source.questions), [], ""
        for node in self.nodes:
            seen = node.facts.questions
            shares.append(1.0 if node.done else min(1.0, seen / max(expected, 1.0)))
            if not node.done and not at_work:
                at_work = f"{node.name} {seen:,} of {expected:,.0f} questions"
            if seen and not node.done:
                expected *= node.kept_questions / seen
        self.on_progress(sum(shares) / max(1, len(shares)), at_work)


def _identity(step: Step, matters: Mapping[str, Any]) -> dict[str, Any]:
    """What a step's output follows from, beside its input."""
    unknown = set(step.DEPENDS_ON) - set(FINGERPRINT_INPUTS)
    if unknown:
        msg = f"{type(step).__name__} uses {sorted(unknown)}, which is not in {FINGERPRINT_INPUTS}"
        raise InvariantError(msg)
    whole = identity(step) | {"uses": {name: matters.get(name) for name in step.DEPENDS_ON}}
    plain: dict[str, Any] = as_json(whole)
    return plain


def _by_question(records: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    for _, group in itertools.groupby(records, key=lambda record: record.question.id):
        yield list(group)


async def _chunks(
    source: AsyncGenerator[list[Candidate]], questions: int
) -> AsyncGenerator[list[Candidate]]:
    """The records of `source` in chunks of so many questions, 0: in one; none is empty."""
    held: list[list[Candidate]] = []
    async with aclosing(source) as parts:
        async for part in parts:
            for group in _by_question(part):
                if held and held[-1][0].question.id == group[0].question.id:
                    held[-1].extend(group)  # the parts of another chunking may cut a question
                    continue
                if questions and len(held) >= questions:
                    yield list(itertools.chain.from_iterable(held))
                    held = []
                held.append(group)
    if held:
        yield list(itertools.chain.from_iterable(held))
