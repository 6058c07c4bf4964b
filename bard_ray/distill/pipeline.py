"""Runs the steps of the data pipeline: chunk by chunk, several at a time, each written to disk.

Steps form a chain of generators. A step takes chunks from the previous one, works on up to `ahead`
of them at a time, and yields finished ones in order. It takes no new chunk while its own results
are not taken, so memory is bounded whatever the speeds. A finished chunk is on disk before it is
yielded. Outputs of completed steps, and finished chunks of the others, are read instead of being
computed again.
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

from bard_ray.distill.build_steps import inputs_of
from bard_ray.distill.filter import Candidate, StepResult, new_counters
from bard_ray.distill.identity import as_json, digest, identity
from bard_ray.distill.step import Step, StepTools, chunk_questions
from bard_ray.distill.store import FORMAT, StepFacts, StepStore, fingerprint, kept, tally
from bard_ray.distill.table import read_records

SOURCE_QUESTIONS = 256  # of a chunk of the source

OnProgress = Callable[[float, str], None]  # share done in [0, 1], the current step


@dataclass(frozen=True)
class RecordSource:
    """Where records come from.

    Attributes:
        key: digest of what they depend on.
        questions: how many there are.
        read: yields all records, question by question.
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
    """A step of a pipeline, with its store and its figures so far."""

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
        fingerprint_inputs: values of `traits.FINGERPRINT_INPUTS`, JSON.
        ahead: chunks that a step works on at a time.
        on_progress: called after each chunk.
    """

    root: Path
    source: RecordSource
    steps: Sequence[tuple[str, Step]]
    tools: StepTools
    fingerprint_inputs: Mapping[str, Any]
    ahead: int = 4
    on_progress: OnProgress = lambda share, step: None
    nodes: list[Node] = field(init=False)

    def __post_init__(self) -> None:
        """Compute the key of every step."""
        self.nodes, key = [], self.source.key
        for name, step in self.steps:
            what = _identity(step, self.fingerprint_inputs)
            key = digest([FORMAT, what, key])
            facts = StepFacts(name, key)
            self.nodes.append(Node(name, step, what, StepStore(self.root, name, key), facts))

    async def run(self) -> list[StepFacts]:
        """Compute what is missing; returns the figures of every step."""
        first = self._resume()
        stream = self._input(first)
        for node in self.nodes[first:]:
            stream = self._flow(node, stream)
        async with aclosing(stream) as last:
            async for _ in last:
                self._report()
        self._report()
        return [node.facts for node in self.nodes]

    def records(self, after: int | None = None) -> Iterator[Candidate]:
        """Kept records, once `run` has returned.

        Args:
            after: number of steps; 0: the source, None: all steps.

        Raises:
            DataError: the files of that step are missing or damaged.
        """
        steps = len(self.nodes) if after is None else after
        if steps == 0:
            yield from self.source.read()
            return
        node = self.nodes[steps - 1]
        yield from itertools.chain.from_iterable(node.store.read(node.facts.parts))

    def results(self) -> Iterator[StepResult]:
        """All records of the last step with their drop reasons, once `run` has returned.

        Raises:
            DataError: its files are missing or damaged.
        """
        node = self.nodes[-1]
        for index in range(node.facts.parts):
            yield from read_records(node.store.data_path(index))

    def _resume(self) -> int:
        """Index of the first incomplete step; the facts of the steps before it are filled in."""
        complete = [node.store.complete() for node in self.nodes]
        first = next((i for i, facts in enumerate(complete) if facts is None), len(self.nodes))
        # A complete step needs no earlier output, but the facts of earlier steps are reported.
        for node, facts in zip(self.nodes[:first], complete, strict=False):
            assert facts is not None  # noqa: S101 by the choice of `first`
            node.facts, node.done = facts, True
        return first

    async def _input(self, first: int) -> AsyncGenerator[list[Candidate]]:
        """Input chunks of the first incomplete step."""
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
            async with aclosing(_chunks(source, chunk_questions(node.step))) as chunks:
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
        """Wait for the oldest chunk in flight."""
        facts, records = await pending[0]
        pending.popleft()
        node.facts = node.facts.plus(facts)
        node.kept_questions += len({record.question.id for record in records})
        self._report()
        return records

    async def _part(
        self, node: Node, index: int, records: list[Candidate]
    ) -> tuple[StepFacts, list[Candidate]]:
        """One chunk: read from disk, or computed and written."""
        source = fingerprint(records)
        found = await asyncio.to_thread(node.store.part, index, source)
        if found is not None:
            return found[0], kept(found[1])
        started = time.monotonic()
        node.clock.start()
        tools = replace(self.tools, counters=new_counters())
        try:
            results = await node.step.run(records, tools)
        finally:
            added_s = node.clock.stop()
        facts = tally(node.name, node.store.key, records, results)
        facts = replace(facts, counters=dict(tools.counters))
        alone = replace(facts, seconds=round(time.monotonic() - started, 4))
        await asyncio.to_thread(node.store.write_part, index, source, results, alone)
        return replace(facts, seconds=round(added_s, 4)), kept(results)

    def _report(self) -> None:
        """Report the share of the work done: steps weigh the same, later counts are estimates."""
        expected, shares, current = float(self.source.questions), [], ""
        for node in self.nodes:
            seen = node.facts.questions
            shares.append(1.0 if node.done else min(1.0, seen / max(expected, 1.0)))
            if not node.done and not current:
                current = f"{node.name} {seen:,} of {expected:,.0f} questions"
            if seen and not node.done:
                expected *= node.kept_questions / seen
        self.on_progress(sum(shares) / max(1, len(shares)), current)


def _identity(step: Step, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a step's output depends on, besides its input records."""
    used = {name: inputs.get(name) for name in inputs_of(step)}
    plain: dict[str, Any] = as_json(identity(step) | {"depends_on": used})
    return plain


def _by_question(records: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    for _, group in itertools.groupby(records, key=lambda record: record.question.id):
        yield list(group)


async def _chunks(
    source: AsyncGenerator[list[Candidate]], questions: int
) -> AsyncGenerator[list[Candidate]]:
    """The records of `source` in chunks of `questions` questions; 0: in one. None is empty."""
    groups: list[list[Candidate]] = []
    async with aclosing(source) as parts:
        async for part in parts:
            for group in _by_question(part):
                if groups and groups[-1][0].question.id == group[0].question.id:
                    groups[-1].extend(group)  # a part of another step may end inside a question
                    continue
                if questions and len(groups) >= questions:
                    yield list(itertools.chain.from_iterable(groups))
                    groups = []
                groups.append(group)
    if groups:
        yield list(itertools.chain.from_iterable(groups))
