"""The error model: the cause of an error decides its class, the class what the driver does.

* A user's mistake (`UserError`: configuration, data, resources, a run directory that does not
  match) is raised before anything expensive starts. The driver prints its message, one paragraph
  without a traceback, and exits with `exit_code`.
* An infrastructure failure (`InfrastructureError`: a call timed out, an actor died, weights did not
  arrive) is retried or the part is replaced; `actors.cluster.supervise` holds the policy.
* A broken invariant (`InvariantError`) is a bug in this project: the run stops and names the
  invariant.

A bad rollout is none of these: it is data (a `Verdict`), not an exception.
Every class survives pickling with its arguments, because these exceptions cross processes.
"""

from __future__ import annotations


class BardError(Exception):
    """Base class of the errors that this project raises."""

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self._init_args = args

    def __reduce__(self) -> tuple[type[BardError], tuple[object, ...]]:
        return type(self), self._init_args


class UserError(BardError):
    """A mistake that the user can fix; the message says what, where, and how."""

    exit_code = 2


class ConfigError(UserError):
    """A field of the configuration breaks a rule."""

    def __init__(self, field: str, value: object, rule: str, fix: str) -> None:
        super().__init__(field, value, rule, fix)
        self.field, self.value, self.rule, self.fix = field, value, rule, fix

    def __str__(self) -> str:
        return f"{self.field} = {self.value!r}: {self.rule}. {self.fix}"


class MultipleConfigError(ConfigError):
    """Several rules are broken; field, value, rule and fix are those of the first.

    Attributes:
        problems: one error for each broken rule, at least one.
    """

    def __init__(self, *problems: ConfigError) -> None:
        first = problems[0]
        super().__init__(first.field, first.value, first.rule, first.fix)
        self.problems = self._init_args = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = [f"{len(self.problems)} settings have to change:", *map(str, self.problems)]
        return "\n  - ".join(lines)


class DataError(UserError):
    """A data set is missing, empty or malformed; the message shows 300 characters of `row`."""

    def __init__(self, source: str, problem: str, fix: str, row: object = None) -> None:
        super().__init__(source, problem, fix, row)
        self.source, self.problem, self.fix, self.row = source, problem, fix, row

    def __str__(self) -> str:
        shown = "" if self.row is None else f" Row: {str(self.row)[:300]}"
        return f"{self.source}: {self.problem}. {self.fix}{shown}"


class ResourceError(UserError):
    """The cluster has fewer resources than the placement needs."""

    def __init__(self, resource: str, needed: float, available: float, fix: str) -> None:
        super().__init__(resource, needed, available, fix)
        self.resource, self.needed, self.available, self.fix = resource, needed, available, fix

    def __str__(self) -> str:
        needed = f"the plan needs {self.needed:g} {self.resource}"
        return f"{needed}, the cluster has {self.available:g}. {self.fix}"


class RunStateError(UserError):
    """The run directory holds a state that this command cannot resume from."""

    def __init__(self, path: str, problem: str, fix: str) -> None:
        super().__init__(path, problem, fix)
        self.path, self.problem, self.fix = path, problem, fix

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}. {self.fix}"


class InfrastructureError(BardError):
    """Infrastructure failed: a process died, a call timed out, a transfer was incomplete."""

    exit_code = 3


class CallTimeoutError(InfrastructureError):
    """A remote call did not return within its time limit."""

    def __init__(self, what: str, limit_s: float) -> None:
        super().__init__(what, limit_s)
        self.what, self.limit_s = what, limit_s

    def __str__(self) -> str:
        return f"{self.what} did not return within {self.limit_s:g} s"


class ActorLostError(InfrastructureError):
    """An actor that cannot be replaced is gone.

    Args:
        what: the actor in words, such as `learner rank 1`.
        reason: how it ended, as far as that is known.
        log: file with its output.
    """

    def __init__(self, what: str, reason: str, log: str) -> None:
        super().__init__(what, reason, log)
        self.what, self.reason, self.log = what, reason, log

    def __str__(self) -> str:
        return f"{self.what} was lost: {self.reason}. Its log: {self.log}."


class WeightSyncError(InfrastructureError):
    """The weights sent and the weights loaded differ in version, names, shapes or size."""


class InvariantError(BardError):
    """An invariant does not hold; the run stops rather than train on wrong data."""

    exit_code = 4


def first_error(error: BaseException) -> BaseException:
    """The first exception inside the nested exception groups that task groups raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
