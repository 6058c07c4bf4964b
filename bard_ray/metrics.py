"""Step metrics.

The one table of names, and the writer of `metrics.jsonl` and the TensorBoard files.

A name that is not in `TABLE` cannot be written, so the table is complete by construction. Every
stage of a run (`base`, `sft`, `rl`, ...) has its own step counter; a record is one step of one
stage. Evaluation results are not step metrics: they go to `results.json`
(`bard_ray.report.results`).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bard_ray.errors import InvariantError
from bard_ray.files import write_lines

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """What one name means: its unit, how a step's values become one number, and the definition."""

    unit: str
    reduction: str
    meaning: str


# Bins of thinking budgets: the thirds of the taught ones, and prompts without a number of tokens.
BINS = ("short", "middle", "long", "none")

_BINNED = {
    "lag_mean": Metric("steps", "token mean", "lag of tokens, {bin}"),
    "lag_max": Metric("steps", "max", "largest lag, {bin}"),
    "ratio_mean": Metric("1", "token mean", "policy over behavior probability, {bin}"),
    "cut": Metric("share", "token mean", "tokens clipped, truncated or masked, {bin}"),
    "behavior_kl": Metric("nats", "token mean", "k3 estimate of KL(behavior || policy), {bin}"),
    "tokens": Metric("share", "token mean", "share of the step's trained tokens, {bin}"),
    "trained": Metric("groups", "sum", "groups trained on, {bin}"),
    "zero_variance": Metric("groups", "sum", "groups without reward variance, {bin}"),
    "surplus": Metric("groups", "sum", "over-sampled groups given up, {bin}"),
}
_BIN_WORDS = {
    "short": "lowest third of the taught budgets",
    "middle": "middle third of the budgets",
    "long": "highest third of the budgets",
    "none": "no token budget",
}

TABLE: dict[str, Metric] = {
    # Supervised stages: base, sft, sft_full.
    "sft/loss": Metric("nats", "token mean", "negative log-likelihood of the completion tokens"),
    "sft/grad_norm": Metric("1", "last", "gradient norm over all ranks, before clipping"),
    "sft/lr": Metric("1", "last", "learning rate of the step"),
    "sft/tokens": Metric(
        "tokens", "sum", "tokens trained on in the step, prompts included, padding not"
    ),
    "sft/tokens_per_s": Metric("tokens/s", "mean", "sft/tokens over the wall time of the step"),
    # Reinforcement learning: what the policy did.
    "rl/reward": Metric(
        "1",
        "rollout mean",
        "what the advantages are made of: accuracy and budget fidelity combined",
    ),
    "rl/accuracy": Metric("share", "rollout mean", "rollouts whose verdict is correct"),
    "rl/fidelity": Metric("1", "rollout mean", "budget fidelity, 0 where malformed"),
    "rl/rel_err": Metric(
        "1", "rollout mean", "|L - b| / b of rollouts with a token budget b; L thinking tokens"
    ),
    "rl/in_band": Metric(
        "share", "rollout mean", "rollouts with a token budget whose |L - b| <= max(1, 0.1 b)"
    ),
    "rl/overrun": Metric("share", "rollout mean", "rollouts with a token budget whose L > b"),
    "rl/thinking_tokens": Metric("tokens", "rollout mean", "thinking length L"),
    "rl/truncated": Metric("share", "rollout mean", "rollouts that ended at the token limit"),
    "rl/unclosed": Metric("share", "rollout mean", "rollouts that never closed their thinking"),
    "rl/skipped": Metric("share", "rollout mean", "rollouts that closed their thinking at once"),
    "rl/extra_tags": Metric(
        "share", "rollout mean", "rollouts with a think tag in the answer part"
    ),
    "rl/leaking": Metric(
        "share", "rollout mean", "rollouts whose answer part exceeds rl.reward.answer_limit"
    ),
    # Reinforcement learning: what the learner did.
    "rl/loss": Metric("1", "token mean", "corrected policy loss, KL term included"),
    "rl/kl": Metric("nats", "token mean", "k3 estimate of KL(policy || reference)"),
    "rl/entropy": Metric("nats", "token mean", "entropy of the policy at the trained positions"),
    "rl/ratio_mean": Metric("1", "token mean", "policy probability over behavior probability"),
    "rl/ratio_max": Metric("1", "max", "largest such ratio of the step"),
    "rl/clip_low": Metric(
        "share", "token mean", "tokens with a negative advantage whose gradient the clip took away"
    ),
    "rl/clip_high": Metric(
        "share", "token mean", "tokens with a positive advantage whose gradient the clip took away"
    ),
    "rl/weight_cut": Metric(
        "share", "token mean", "tokens whose importance weight was truncated or masked"
    ),
    "rl/weight_mean": Metric(
        "1", "token mean", "weight w of the policy gradient w A grad log p that the correction gave"
    ),
    "rl/ess": Metric(
        "share", "(sum w)^2 / (N sum w^2)", "effective sample size over the N trained tokens"
    ),
    "rl/behavior_kl": Metric(
        "nats", "token mean", "k3 estimate of KL(behavior || policy) on the sampled tokens"
    ),
    "rl/grad_norm": Metric("1", "last", "gradient norm over all ranks, before clipping"),
    "rl/lr": Metric("1", "last", "learning rate of the step"),
    # Reinforcement learning: asynchrony and throughput.
    "rl/lag_mean": Metric(
        "steps", "token mean", "version being trained minus the version that sampled the token"
    ),
    "rl/lag_max": Metric("steps", "max", "largest such lag of the step; bounded by rl.max_lag"),
    **{
        f"bins/{name}_{bin_name}": replace(m, meaning=m.meaning.format(bin=words))
        for name, m in _BINNED.items()
        for bin_name, words in _BIN_WORDS.items()
    },
    "rl/version": Metric("steps", "last", "weight version after the step"),
    "rl/tokens": Metric("tokens", "sum", "tokens sampled for the groups of the step"),
    "rl/tokens_per_s": Metric("tokens/s", "mean", "rl/tokens over the wall time of the step"),
    "rl/samples_per_s": Metric("1/s", "mean", "rollouts of the step over its wall time"),
    "rl/groups_trained": Metric("groups", "sum", "groups trained on in the step"),
    "rl/groups_zero_variance": Metric(
        "groups", "sum", "groups without reward variance, replaced by others"
    ),
    "rl/groups_failed": Metric("groups", "sum", "groups filed with a failure, replaced by others"),
    "rl/groups_surplus": Metric(
        "groups", "sum", "over-sampled groups given up, enough groups before them being trainable"
    ),
    "rl/groups_in_flight": Metric(
        "groups", "last", "groups admitted and not yet filed or trained, after the step"
    ),
    # Verdicts given since the step before, those of untrained groups included.
    "verdict/correct": Metric("verdicts", "sum", "graded and right"),
    "verdict/wrong": Metric("verdicts", "sum", "graded and not right"),
    "verdict/unparsable": Metric(
        "verdicts", "sum", "no answer could be read, or several; counts as wrong"
    ),
    "verdict/timeout": Metric(
        "verdicts", "sum", "grading hit its time or memory limit; counts as wrong"
    ),
    "verdict/broken": Metric(
        "verdicts", "sum", "grading failed for reasons of ours; graded again, never a zero reward"
    ),
    # The verifier pool, since it was started.
    "grading/demoted": Metric("answers", "last", "answers so slow that the others overtook them"),
    "grading/deaths": Metric("processes", "last", "grading processes that died under an answer"),
    "grading/retried": Metric("answers", "last", "answers graded again after that"),
    "grading/reissued": Metric("answers", "last", "answers graded again, their worker being lost"),
    "grading/workers_replaced": Metric("workers", "last", "verifier workers that were lost"),
    "grading/worst_s": Metric("s", "max", "longest time that one answer took"),
    # Where the time of a step goes.
    "time/step_s": Metric("s", "last", "wall time from one weight version to the next"),
    "time/wait_s": Metric("s", "last", "learner waiting for groups"),
    "time/generate_s": Metric("s", "group mean", "admission to last sampled token of a group"),
    "time/grade_s": Metric("s", "group mean", "grading a group, queueing included"),
    "time/reference_s": Metric(
        "s", "group mean", "reference log-probs of a group, queueing included"
    ),
    "time/train_s": Metric("s", "last", "forward, backward and optimizer"),
    "time/publish_s": Metric(
        "s", "last", "learner waiting: gathering its weights, and for the transfer before this one"
    ),
    "time/transfer_s": Metric(
        "s", "last", "weights on their way to the rollout workers; the learner goes on meanwhile"
    ),
    "time/stall_s": Metric("s", "max over workers", "generation paused while weights were loaded"),
}


def render_table() -> str:
    """`TABLE` as a Markdown table, for the README."""
    rows = [
        f"| `{name}` | {m.unit} | {m.reduction} | {_escape_pipe(m.meaning)} |"
        for name, m in TABLE.items()
    ]
    return "\n".join(["| name | unit | reduction | meaning |", "|---|---|---|---|", *rows])


class MetricsWriter:
    """Appends step records to `metrics.jsonl` and scalars to `tensorboard/<stage>/`.

    A record is `{"stage", "step", "time_s", <name>: value, ...}` with `time_s` in Unix seconds. A
    value that is not finite is written as null, since JSON knows no NaN; TensorBoard gets it as it
    is. Opening an existing file appends.
    """

    def __init__(self, run_dir: str | Path, clock: Callable[[], float] = time.time) -> None:
        """Open the files of a run, mending a last line that a crash cut short."""
        self._dir = Path(run_dir)
        self._dir.mkdir(parents=True, exist_ok=True)
        self._path = self._dir / "metrics.jsonl"
        self._clock = clock
        self._boards: dict[str, _Board] = {}
        self._purge_steps: dict[str, int] = {}
        _drop_torn_line(self._path)
        self._file = self._path.open("a", encoding="utf-8")

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Write one record and flush it.

        Raises:
            InvariantError: a name is not in `TABLE`.
        """
        unknown = sorted(set(values) - set(TABLE))
        if unknown:
            msg = f"metrics not in bard_ray.metrics.TABLE: {', '.join(unknown)}"
            raise InvariantError(msg)
        numbers = {name: float(value) for name, value in values.items()}
        time_s = round(self._clock(), 3)
        record: Record = {"stage": stage, "step": step, "time_s": time_s}
        record |= {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        self._board(stage).write(step, numbers, time_s)

    def truncate_after(self, stage: str, step: int) -> None:
        """Drop the records of `stage` beyond `step`.

        A resumed stage would appear twice otherwise.
        """
        self._file.close()
        kept = [r for r in read_metrics(self._path) if r["stage"] != stage or r["step"] <= step]
        write_lines(self._path, map(json.dumps, kept))
        self._file = self._path.open("a", encoding="utf-8")
        if stage in self._boards:
            self._boards.pop(stage).close()
        self._purge_steps[stage] = step + 1

    def close(self) -> None:
        """Flush and close every file; a second call does nothing."""
        self._file.close()
        for board in self._boards.values():
            board.close()
        self._boards.clear()

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _board(self, stage: str) -> _Board:
        if stage not in self._boards:
            # One TensorBoard run a stage: base and sft share names.
            self._boards[stage] = _Board(
                self._dir / "tensorboard" / stage, self._purge_steps.get(stage)
            )
        return self._boards[stage]


class _Board:
    """Event file of one TensorBoard run.

    Written with TensorBoard's own package: `torch.utils.tensorboard` would load torch (180 MiB)
    into the driver.
    """

    def __init__(self, path: Path, purge_step: int | None) -> None:
        """Open a new event file; what earlier ones hold from `purge_step` on is hidden."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._file = EventFileWriter(str(path))
        if purge_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._file.add_event(
                self._event(wall_time=time.time(), step=purge_step, session_log=start)
            )

    def write(self, step: int, values: Mapping[str, float], time_s: float) -> None:
        """Write all values of a step as one event, and flush."""
        scalars = [
            self._summary.Value(tag=name, simple_value=value) for name, value in values.items()
        ]
        self._file.add_event(
            self._event(wall_time=time_s, step=step, summary=self._summary(value=scalars))
        )
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: str | Path) -> list[Record]:
    """Records of a `metrics.jsonl`, in file order; none if there is no file.

    A torn last line is left out.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line.strip()]


def series(records: Sequence[Record], stage: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric of one stage; values that were not finite come back as NaN."""
    found = [(r["step"], r[name]) for r in records if r["stage"] == stage and name in r]
    return [step for step, _ in found], [math.nan if value is None else value for _, value in found]


def _drop_torn_line(path: Path) -> None:
    """Cut what follows the last newline.

    A record is written together with its newline, so that is half a record.
    """
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def _escape_pipe(text: str) -> str:
    return text.replace("|", "\\|")
