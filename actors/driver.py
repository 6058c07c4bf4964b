"""The driver: starts the roles, runs the stages in order, stops the roles.

It is one asyncio program that owns no tensors. Exit codes: 0 done, 2 user error, 3 infrastructure
failure, 4 internal error, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from actors.cluster.env import apply_driver_env
from actors.cluster.ray_cluster import Cluster, in_submitted_job
from actors.cluster.supervise import root_cause
from actors.placement.capacity import check_given_cluster, check_plan, sized_here, starts_here
from actors.placement.deployment import Deployment
from actors.placement.model_paths import student_directory
from actors.placement.plan import Plan, plan_placement, render, summary
from actors.stages.context import Context, Stage
from actors.stages.evaluate import read_evals
from actors.stages.export import export_student
from actors.stages.order import resume_point, stages_of
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
NOT_STARTED = "Nothing was started."


def main(config: Config, argv: Sequence[str] | None = None) -> int:
    """Run a recipe with the arguments of its command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Run this recipe. The same command again resumes where it stopped."
    )
    add_arguments(parser)
    return execute(config, parser.parse_intermixed_args(argv))


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every command that takes a recipe."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="FIELD=VALUE",
        help="settings of the recipe to change, for example rl.max_lag=2 run.fresh=true",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every command that runs a recipe."""
    add_overrides(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print configuration, placement and memory plan, and exit",
    )


def execute(config: Config, arguments: argparse.Namespace) -> int:
    """Execute a command with the arguments of `add_arguments`; returns the exit code."""
    if arguments.dry_run:
        return show_plan(config, arguments.overrides, with_config=True)
    return run(config, arguments.overrides)


def run(config: Config, overrides: Sequence[str]) -> int:
    """Run a recipe, or resume it; returns the exit code."""
    console, driver = Console(sys.stdout), None
    try:
        driver = Driver(*_prepare(config, overrides, console), console)
        return _run_until_signal(driver)
    except KeyboardInterrupt:
        console.line(f"stopped. {driver.resume_hint() if driver else NOT_STARTED}")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 the outermost frame, where errors become messages
        return report_error(console, error, driver)


def show_plan(config: Config, overrides: Sequence[str], *, with_config: bool) -> int:
    """Print placement and memory plan, and check that it can run; returns the exit code."""
    console = Console(sys.stdout)
    try:
        config, plan = _prepare(config, overrides, console)
        if with_config:
            console.line(to_yaml(config))
        console.line(render(plan))
        check_plan(plan, config)
        if not starts_here(config) and not check_given_cluster(plan, config):
            console.line(f"no cluster answers at {config.cluster.address}: plan not compared")
    except Exception as error:  # noqa: BLE001 as above
        return report_error(console, error)
    return 0


def _prepare(config: Config, overrides: Sequence[str], console: Console) -> tuple[Config, Plan]:
    """Check the configuration and plan its processes; prints warnings.

    Raises:
        ConfigError: the configuration cannot run.
    """
    apply_driver_env()
    config = load(config, overrides)
    register_kinds(config.verifier.kinds)  # before the check: a format may name one
    check(config)
    stages_of(config)
    for warning in warnings(config):
        console.line(f"warning: {warning}")
    if in_submitted_job():
        _check_paths(config)
    config = sized_here(config)
    return config, plan_placement(config)


def _check_paths(config: Config) -> None:
    """Check that a submitted job writes to paths that outlive it.

    Raises:
        ConfigError: a path is relative.
    """
    for field, path in (("run.dir", config.run.dir), ("distill.store", config.distill.store)):
        if path and not Path(path).is_absolute():
            rule = (
                "is relative, and a submitted job runs in a temporary copy of its working directory"
            )
            fix = f"Give an absolute path that every node sees, such as {field}=/shared/runs."
            raise ConfigError(field, path, rule, fix)


def _run_until_signal(driver: Driver) -> int:
    """Run the driver; returns the exit code.

    Ctrl-C and SIGTERM cancel it, so that it stops its actors before the process ends.

    Raises:
        KeyboardInterrupt: the run was interrupted.
    """
    terminated = False

    async def body() -> None:
        nonlocal terminated
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None  # noqa: S101 a coroutine that runs has a task

        def on_terminate() -> None:
            nonlocal terminated
            terminated = True
            # While Ray starts, its native handler is still active (see `take_back_sigterm`). It has
            # set an alarm that aborts this process in three seconds; stopping may take longer.
            signal.alarm(0)
            task.cancel()

        loop.add_signal_handler(signal.SIGTERM, on_terminate)
        await driver.run()

    try:
        asyncio.run(body())
    except asyncio.CancelledError:
        if not terminated:
            raise KeyboardInterrupt from None
        driver.console.line(f"terminated. {driver.resume_hint()}")
        return TERMINATED
    return 0


class Driver:
    """One run, from start to report."""

    def __init__(self, config: Config, plan: Plan, console: Console) -> None:
        self.config, self.plan, self.console = config, plan, console
        self.directory: RunDirectory | None = None  # set once it is open

    async def run(self) -> None:
        """Run the remaining stages, then show the results."""
        check_plan(self.plan, self.config)
        run = self.directory = RunDirectory.open(self.config)
        try:
            self.console.line(f"{summary(self.plan)}   run: {run.path}")
            stages = stages_of(self.config)
            if not all(run.is_done(stage.name) for stage in stages):
                await self._run_stages(run, stages)
            self._finish(run)
        finally:
            run.close()

    async def _run_stages(self, run: RunDirectory, stages: Sequence[Stage]) -> None:
        """Run the remaining stages.

        The first stage that needs them starts cluster and roles; they are stopped at the end.
        """
        student = student_directory(self.config, run.path)
        cluster = Cluster(self.config.cluster, run.path / "logs", verbose=self.config.run.verbose)
        deployment = Deployment(cluster, self.config, self.plan, student)
        with MetricsWriter(run.path, declared_metrics(self.config.rl)) as metrics:
            context = Context(self.config, run, metrics, student, deployment)
            async with self._live_report(run, stages) as live:
                try:
                    for index, stage in enumerate(stages, start=1):
                        await self._run_stage(context, stage, (index, len(stages)), live)
                finally:
                    await deployment.close()

    def _live_report(self, run: RunDirectory, stages: Sequence[Stage]) -> LiveReport:
        """The report that is refreshed while the stages run."""
        self.console.line(f"report: {run.path / 'report.html'} (refreshed during the run)")
        titles = {stage.name: stage.title for stage in stages}
        subject = Subject(run.path, self.config.report.title, titles, self._facts())
        return LiveReport(subject, lambda: run.wall_s, lambda error: str(root_cause(error)))

    async def _run_stage(
        self, context: Context, stage: Stage, place: tuple[int, int], live: LiveReport
    ) -> None:
        """Run one stage unless an earlier command finished it."""
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
        earlier_s = facts.get("earlier_wall_s", 0.0)
        context.run.finish(stage.name, earlier_s + time.monotonic() - started, facts)
        live.refresh()

    def _facts(self) -> dict[str, object]:
        """Settings that a reader of the results needs."""
        return {
            "name": self.config.run.name,
            "seed": self.config.run.seed,
            "max_lag": self.config.rl.max_lag,
            "held_out": self.config.budget.held_out,
        }

    def _finish(self, run: RunDirectory) -> None:
        """Write results, report and export, and print the table."""
        from bard_ray.report.html import write_report

        content = Results(run.wall_s, read_evals(run), self._facts())
        write_results(run.path / "results.json", content)
        results = read_results(run.path / "results.json")
        report = write_report(run.path, self.config.report.title)
        if results.variants:
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

    def resume_hint(self) -> str:
        """Describe where the same command would resume."""
        if self.directory is None:
            return NOT_STARTED
        return f"The same command resumes from {resume_point(self.directory, self.config)}."


def report_error(console: Console, error: Exception, driver: Driver | None = None) -> int:
    """Print one paragraph with the error, its location and the fix; returns the exit code.

    The traceback goes to the driver's log.
    """
    cause = root_cause(error)
    directory = None if driver is None else driver.directory
    kind = "configuration" if isinstance(cause, ConfigError) else type(cause).__name__
    parts = [str(cause) if isinstance(cause, BardError) else f"{type(cause).__name__}: {cause}"]
    if driver is not None and isinstance(cause, InfrastructureError):
        parts.append(driver.resume_hint())
    if directory is not None and not isinstance(cause, UserError):
        log = directory.path / "logs" / "driver.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as stream:
            stream.write("".join(traceback.format_exception(cause)))
        parts.append(f"Details: {log} and the actors' logs beside it.")
    console.line(f"error ({kind}): {' '.join(parts)}")
    return cause.exit_code if isinstance(cause, BardError) else InfrastructureError.exit_code
