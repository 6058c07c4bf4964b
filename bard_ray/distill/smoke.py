"""The smoke test of candidate teachers: short SFT on a little data of each, then a small sweep.

Written against the roles only. Every candidate's student starts from the same weights, takes the
same number of steps and answers the same questions. Source: DED's smoke test; its size and its rule
are not public, so score, schedule and numbers are ours.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bard_ray.config.schema import EvalConfig, SFTConfig, SmokeConfig
from bard_ray.distill.choice import (
    CandidateFigures,
    TeacherChoice,
    Trial,
    answers_by_question,
    choose,
)
from bard_ray.distill.corpus import to_sequences
from bard_ray.distill.diagnostics import (
    Diagnostics,
    first_tokens,
    length_figures,
    mean_nll,
    ngram_entropy,
    pca_shift,
    text_states,
)
from bard_ray.errors import ConfigError
from bard_ray.evals.sweep import SweepPlan, sweep
from bard_ray.learn.batching import num_sft_steps, sft_batches
from bard_ray.learn.schedule import warmup_cosine
from bard_ray.learn.spec import OptimSpec
from bard_ray.records import (
    DistillRow,
    Floats,
    Ints,
    Question,
    SamplingSpec,
    TokenBudget,
    TrainSequence,
)
from bard_ray.roles import Learner, Reference, Sampler, Verifier
from bard_ray.sft.loop import train_sft

if TYPE_CHECKING:
    from bard_ray.data.prompt import PromptFormat

BUDGETS = 5  # of the sweep, evenly spaced over `budget.train`
WARMUP_SHARE = 0.1  # of a candidate's steps, at most
PROBES = 256  # rows of one candidate that its likelihood and hidden states are computed from

OnProgress = Callable[[int, int, str], None]  # parts done, parts in total, current part


@dataclass(frozen=True, slots=True)
class SmokeRoles:
    """The roles of a smoke test. The weights that they hold afterward are undefined.

    Attributes:
        learner: trains the students.
        sampler: answers with them.
        verifier: grades the answers.
        next_version: returns a weight version that was not used before.
        reference: for likelihood and shift of the hidden states; None leaves them out.
        scratch: an empty directory for weights that the reference worker can read.
    """

    learner: Learner
    sampler: Sampler
    verifier: Verifier
    next_version: Callable[[], int]
    reference: Reference | None = None
    scratch: Path | None = None


@dataclass(frozen=True, slots=True)
class SmokeSpec:
    """Training and sweep, the same for every candidate's student.

    Attributes:
        student: model directory that all students start from.
        prompts: its prompt format.
        max_len: longest row, tokens.
        sft: the short stage; see `smoke_sft`.
        questions: see `bard_ray.data.questions.smoke_questions`.
        plan: the sweep over them; see `smoke_plan`.
        seed: of the order of the rows.
    """

    student: str
    prompts: PromptFormat
    max_len: int
    sft: SFTConfig
    questions: tuple[Question, ...]
    plan: SweepPlan
    seed: int


def smoke_sft(smoke: SmokeConfig, sft: SFTConfig) -> SFTConfig:
    """Settings of the short supervised stage: those of `sft` where `distill.smoke` has none."""
    return replace(
        sft,
        epochs=smoke.epochs,
        lr=smoke.lr or sft.lr,
        batch_rows=smoke.batch_rows or sft.batch_rows,
    )


def smoke_plan(evaluate: EvalConfig, budgets: Sequence[int], seed: int) -> SweepPlan:
    """A sweep over at most `BUDGETS` of the training budgets, from the smallest to the largest.

    Held-out budgets and the unconstrained point are left to the evaluation.
    """
    ordered = sorted(set(budgets))
    last, points = len(ordered) - 1, min(BUDGETS, len(ordered))
    places = sorted({round(last * i / max(1, points - 1)) for i in range(points)})
    spec = SamplingSpec(temperature=evaluate.temperature, max_new_tokens=evaluate.max_new_tokens)
    return SweepPlan(tuple(TokenBudget(ordered[p]) for p in places), spec, samples=1, seed=seed)


async def choose_teacher(
    corpora: Mapping[str, Sequence[DistillRow]],
    roles: SmokeRoles,
    spec: SmokeSpec,
    on_progress: OnProgress = lambda done, total, detail: None,
) -> TeacherChoice:
    """Train a student on each candidate's rows and choose the teacher of the best student.

    A candidate whose rows do not fill one batch gets no score. All others take the number of steps
    of the largest corpus: a student with fewer rows sees them more often, it is not trained less.

    Args:
        corpora: rows from each candidate's chains, in the order of the configuration.
        roles: trainer, sampler and verifier of the students.
        spec: training and sweep.
        on_progress: called before each training and each sweep.

    Returns:
        The choice, which depends on the arguments and the seeds of `spec` alone.

    Raises:
        ConfigError: fewer than two questions, no budget, or no candidate with enough rows.
        InfrastructureError: no student could be sampled and graded.
    """
    _check(spec)
    prepared = {name: _prepare(rows, spec) for name, rows in corpora.items()}
    sequences = {name: found for name, (found, reason) in prepared.items() if not reason}
    trials = {name: Trial(reason) for name, (_, reason) in prepared.items() if reason}
    if not sequences:
        reasons = "; ".join(f"{name}: {trial.failure}" for name, trial in trials.items())
        fix = "Raise distill.smoke.questions, or check why so few of their chains are kept."
        rule = f"no student can be trained ({reasons})"
        raise ConfigError("distill.teachers", list(corpora), rule, fix)
    probe = await _Probe.before(sequences, roles, spec)
    steps = max(_steps(len(rows), spec.sft) for rows in sequences.values())
    for done, (name, rows) in enumerate(sequences.items()):
        on_progress(2 * done, 2 * len(sequences), f"{name}: training")
        await _train(rows, steps, roles.learner, spec)
        on_progress(2 * done + 1, 2 * len(sequences), f"{name}: answering")
        trials[name] = await _evaluate(roles, spec)
        await probe.after(name)
    figures = {
        name: CandidateFigures.of(
            name, len(rows), steps if name in sequences else 0, trials[name], probe.figures(name)
        )
        for name, rows in corpora.items()
    }
    return choose(figures, trials)


def _check(spec: SmokeSpec) -> None:
    if len(spec.questions) < 2:
        rule = "must be at least 2: one question gives no standard error"
        raise ConfigError("distill.smoke.eval_questions", len(spec.questions), rule, "Raise it.")
    if not spec.plan.budgets:
        raise ConfigError("budget.train", [], "has no budget for the smoke test", "Add some.")


def _prepare(rows: Sequence[DistillRow], spec: SmokeSpec) -> tuple[list[TrainSequence], str]:
    """The rows as sequences, and the reason why they are not enough; empty: they are."""
    if not rows:
        return [], "it has no rows"
    try:
        sequences, dropped = to_sequences(rows, spec.prompts, spec.max_len)
    except ConfigError as error:
        if error.field != "student.max_len":
            raise
        return [], f"all of its {len(rows)} rows are longer than student.max_len"
    if len(sequences) < spec.sft.batch_rows:
        long = f", {dropped} others are too long" if dropped else ""
        return [], f"its {len(sequences)} rows do not fill one batch{long}"
    return sequences, ""


def _steps(rows: int, sft: SFTConfig) -> int:
    return num_sft_steps(rows, sft.batch_rows, sft.epochs)


async def _train(
    rows: Sequence[TrainSequence], steps: int, learner: Learner, spec: SmokeSpec
) -> None:
    """The short stage: `steps` steps from the student's weights, with a fresh optimizer."""
    sft = spec.sft
    warmup = min(sft.warmup_steps, math.ceil(WARMUP_SHARE * steps))
    batches = sft_batches(len(rows), sft.batch_rows, steps * sft.batch_rows / len(rows), spec.seed)

    def lr(step: int) -> float:
        return warmup_cosine(step, steps, warmup, sft.lr, sft.min_lr_ratio)

    async def on_step(step: int, values: Mapping[str, float]) -> None:
        pass

    optim = OptimSpec((sft.beta1, sft.beta2), sft.weight_decay, sft.grad_clip)
    await learner.begin(spec.student, optim)
    await train_sft(learner, rows, batches, lr, on_step)


async def _evaluate(roles: SmokeRoles, spec: SmokeSpec) -> Trial:
    """Publish the learner's weights to the sampler, and sweep."""
    await roles.sampler.publish(await roles.learner.publish(), roles.next_version())
    groups = await sweep(
        roles.sampler, roles.verifier, spec.questions, spec.plan, lambda done, total: None
    )
    scores = answers_by_question(groups, len(spec.plan.budgets) * spec.plan.samples)
    return Trial("" if scores else "no question was sampled and graded", scores)


class _Probe:
    """Computes the diagnostics: before any training, and after that of each candidate."""

    def __init__(
        self, sequences: Mapping[str, Sequence[TrainSequence]], roles: SmokeRoles, spec: SmokeSpec
    ) -> None:
        self._roles, self._close_id = roles, spec.prompts.close_id
        self._thinks = {
            name: [_think_tokens(row, self._close_id) for row in rows]
            for name, rows in sequences.items()
        }
        share = max(2, PROBES // max(1, len(sequences)))
        self._texts = [row for rows in sequences.values() for row in rows[:share]]
        self._before_BH: Floats | None = None
        self._nll: dict[str, float | None] = {}
        self._shift: dict[str, float | None] = {}

    @classmethod
    async def before(
        cls, sequences: Mapping[str, Sequence[TrainSequence]], roles: SmokeRoles, spec: SmokeSpec
    ) -> _Probe:
        """Likelihoods and hidden states under the untrained student."""
        probe = cls(sequences, roles, spec)
        if roles.reference is not None:
            await roles.reference.load(spec.student)
            for name, rows in sequences.items():
                probe._nll[name] = await mean_nll(roles.reference, rows[:PROBES])
            probe._before_BH = await text_states(roles.reference, probe._texts)
        return probe

    async def after(self, name: str) -> None:
        """Hidden states of the same texts under the learner's current weights."""
        reference, scratch = self._roles.reference, self._roles.scratch
        if reference is None or scratch is None or self._before_BH is None:
            return
        path = (scratch / f"student-{len(self._shift)}").resolve()
        await self._roles.learner.export(str(path))
        await reference.load(str(path))
        self._shift[name] = pca_shift(self._before_BH, await text_states(reference, self._texts))
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)  # models are large

    def figures(self, name: str) -> Diagnostics | None:
        """Diagnostics of one candidate; None where its student was not trained."""
        thinks = self._thinks.get(name)
        if thinks is None:
            return None
        # The entropy estimate depends on the number of tokens, so all candidates get equally many.
        fewest = min(sum(t.size for t in texts) for texts in self._thinks.values())
        return Diagnostics(
            length_figures([think_T.size for think_T in thinks]),
            ngram_entropy(first_tokens(thinks, fewest)),
            self._nll.get(name),
            self._shift.get(name),
        )


def _think_tokens(row: TrainSequence, close_id: int) -> Ints:
    """The completion up to its first closing tag."""
    completion_T = row.tokens_T[row.mask_T]
    places = (completion_T == close_id).nonzero()[0]
    return completion_T[: int(places[0])] if places.size else completion_T
