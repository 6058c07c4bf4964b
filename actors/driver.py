"""The driver: from a configuration to a finished run.

Start the roles, run the stages in order, stop the roles.

One asyncio program that owns no tensors. Exit codes: 0 done, 2 the user can mend it, 3 the
machinery failed, 4 a bug of ours, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from actors.cluster.env import apply_driver_env
from actors.cluster.ray_cluster import Cluster, in_submitted_job
from actors.cluster.supervise import root_cause
from actors.placement.deployment import Deployment
from actors.placement.model_paths import student_directory
from actors.placement.plan import (
    Plan,
    check_memory,
    check_resources,
    host_memory_gib,
    plan_placement,
    render,
    sized,
    summary,
)
from actors.stages.context import Context, Stage
from actors.stages.evaluate import read_evals
from actors.stages.order import stages_of
from bard_ray.config.load import load, to_yaml
from bard_ray.config.schema import Config
from bard_ray.errors import BardError, ConfigError, InfrastructureError, UserError
from bard_ray.metrics import MetricsWriter
from bard_ray.preflight.check import check, warnings
from bard_ray.progress import Console, duration
from bard_ray.report.live import LiveReport, Subject
from bard_ray.report.results import Results, read_results, write_results
from bard_ray.report.table import render_table
from bard_ray.rl.plugin_metrics import declared_metrics
from bard_ray.rundir import RunDirectory
from bard_ray.verify.kinds import register_kinds

INTERRUPTED, TERMINATED = 130, 143


def main(config: Config, argv: Sequence[str] | None = None) -> int:
    """Run a recipe with the command line's overrides; returns the exit code."""
    apply_driver_env()
    console = Console(sys.stdout)
    arguments = _parser().parse_intermixed_args(argv)
    error_log: Path | None = None
    try:
        config = load(config, arguments.overrides)
        register_kinds(config.verifier.kinds)  # before the check: a format may name one
        check(config)
        for warning in warnings(config):
            console.line(f"warning: {warning}")
        if _starts_here(config):
            real = float(os.cpu_count() or 1)
            has = _local_resources(config)
            config = sized(config, has | {"CPU": min(has["CPU"], real)}, local=True)
        plan = plan_placement(config)
        if arguments.dry_run:
            return _dry_run(console, config, plan)
        error_log = Path(config.run.dir) / config.run.name / "logs" / "driver.log"
        return _run_until_signal(_Driver(config, plan, console))
    except KeyboardInterrupt:
        console.line("stopped; the same command goes on from the last finished stage or checkpoint")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 the outermost frame, where errors become messages
        return _report_failure(console, root_cause(error), error_log)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run this recipe. The same command again goes on where it stopped."
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="field=value",
        help="for example rl.max_lag=2 run.fresh=true",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print configuration, placement and memory plan; exit",
    )
    return parser


def _dry_run(console: Console, config: Config, plan: Plan) -> int:
    """Configuration, placement and memory; refuses what could not run where it is asked to."""
    console.line(to_yaml(config))
    console.line(render(plan))
    _check_plan(plan, config)
    if not _starts_here(config):
        has = _given_resources(config)
        if has is None:
            console.line(f"no cluster answers at {config.cluster.address} to compare this with")
        else:
            check_resources(plan, has)
    return 0


def _starts_here(config: Config) -> bool:
    """Will the cluster be one that this command starts on this machine?"""
    return config.cluster.address == "local" and not in_submitted_job()


def _given_resources(config: Config) -> dict[str, float] | None:
    """What the given cluster has now; None where none answers."""
    cluster = Cluster(config.cluster, Path(config.run.dir), verbose=False)
    try:
        return cluster.connect()
    except ConfigError:
        return None
    finally:
        cluster.close()


def _check_plan(plan: Plan, config: Config) -> None:
    """Refuse what no device could hold, or what this machine has too little for.

    A given cluster may grow, so there only the wait for the placement can tell.

    Raises:
        ResourceError: the plan does not fit.
    """
    check_memory(plan, host_memory_gib() if _starts_here(config) else None)
    if _starts_here(config):
        check_resources(plan, _local_resources(config))


def _local_resources(config: Config) -> dict[str, float]:
    """What a cluster started here will have; counting GPUs needs no driver."""
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = gpus if visible is None else len([d for d in visible.split(",") if d])
    return {"CPU": float(config.cluster.cpus or os.cpu_count() or 1), "GPU": float(gpus)}


def _run_until_signal(driver: _Driver) -> int:
    """Run the driver.

    Ctrl-C and SIGTERM cancel it, so that it stops its actors before the process ends.
    """
    terminated = False

    async def body() -> None:
        nonlocal terminated
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None  # noqa: S101 a coroutine that runs has a task

        def on_terminate() -> None:
            nonlocal terminated
            terminated = True
            # Ray's native handler, which ran first, has set an alarm that aborts this process in
            # three seconds; stopping in good order may take longer on a busy machine.
            signal.alarm(0)
            task.cancel()

        loop.add_signal_handler(signal.SIGTERM, on_terminate)
        await driver.run()

    try:
        asyncio.run(body())
    except asyncio.CancelledError:
        if not terminated:
            raise KeyboardInterrupt from None
        driver.console.line(
            "terminated; the same command goes on from the last finished stage or checkpoint"
        )
        return TERMINATED
    return 0


class _Driver:
    """One run from start to report."""

    def __init__(self, config: Config, plan: Plan, console: Console) -> None:
        self.config, self.plan, self.console = config, plan, console

    async def run(self) -> None:
        """Do what is not done yet, then show the results."""
        _check_plan(self.plan, self.config)
        run = RunDirectory.open(self.config)
        try:
            self.console.line(f"{summary(self.plan)}   run: {run.path}")
            if not all(run.is_done(stage.name) for stage in stages_of(self.config)):
                await self._stages(run)
            self._finish(run)
        finally:
            run.close()

    async def _stages(self, run: RunDirectory) -> None:
        """Run the stages that are left.

        Bring cluster and roles up for the first that needs them, and down at the end.
        """
        student = student_directory(self.config, run.path)
        cluster = Cluster(self.config.cluster, run.path / "logs", verbose=self.config.run.verbose)
        deployment = Deployment(cluster, self.config, self.plan, student)
        stages = stages_of(self.config)
        with MetricsWriter(run.path, declared_metrics(self.config.rl)) as metrics:
            context = Context(self.config, run, metrics, student, deployment)
            async with self._live_report(run, stages) as live:
                try:
                    for index, stage in enumerate(stages, start=1):
                        await self._stage(context, stage, (index, len(stages)), live)
                finally:
                    await deployment.close()

    def _live_report(self, run: RunDirectory, stages: Sequence[Stage]) -> LiveReport:
        """The report that is refreshed until the stages are done."""
        self.console.line(f"report: {run.path / 'report.html'} (refreshed during the run)")
        titles = {stage.name: stage.title for stage in stages}
        subject = Subject(run.path, self.config.report.title, titles, self._facts())
        return LiveReport(subject, lambda: run.wall_s, lambda error: str(root_cause(error)))

    async def _stage(
        self, context: Context, stage: Stage, place: tuple[int, int], live: LiveReport
    ) -> None:
        """Run one stage, unless an earlier command finished it."""
        if context.run.is_done(stage.name):
            took = duration(context.run.wall_s[stage.name])
            self.console.line(
                f"[{place[0]}/{place[1]}] {stage.name}: done by an earlier command ({took})"
            )
            return
        started = time.monotonic()
        line = self.console.stage(*place, stage.name, stage.title, stage.unit)
        with line as progress, live.stage(stage.name, progress):
            if stage.needs_roles:
                await context.deployment.start()
            facts = await stage.work(context, progress)
        context.run.finish(stage.name, time.monotonic() - started, facts)
        live.refresh()

    def _facts(self) -> dict[str, object]:
        """The settings that a reader of the results needs."""
        return {
            "name": self.config.run.name,
            "seed": self.config.run.seed,
            "max_lag": self.config.rl.max_lag,
            "held_out": self.config.budget.held_out,
        }

    def _finish(self, run: RunDirectory) -> None:
        """Write results, report and export, and print the table."""
        from actors.stages.export import export_student
        from bard_ray.report.html import write_report

        content = Results(run.wall_s, read_evals(run), self._facts())
        write_results(run.path / "results.json", content)
        results = read_results(run.path / "results.json")
        report = write_report(run.path, self.config.report.title)
        self.console.line()
        self.console.line(render_table(results))
        exported = export_student(run, self.config, results)
        data = run.path / "data" / "report.html"
        if data.exists():
            self.console.line(f"corpus: {data.parent}    report on it: {data}")
        self.console.line(
            f"report: {report}"
            + (f"    student: {exported} (Hugging Face format)" if exported else "")
        )


def _report_failure(console: Console, error: BaseException, log: Path | None) -> int:
    """One paragraph: what, where, and what to do. The traceback goes to the log."""
    where = ""
    if log is not None and not isinstance(error, UserError) and log.parent.parent.is_dir():
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as stream:
            stream.write("".join(traceback.format_exception(error)))
        where = f" Details: {log} and the actors' logs beside it."
    kind = "configuration" if isinstance(error, ConfigError) else type(error).__name__
    text = str(error) if isinstance(error, BardError) else f"{type(error).__name__}: {error}"
    console.line(f"error ({kind}): {text}{where}")
    return error.exit_code if isinstance(error, BardError) else InfrastructureError.exit_code
