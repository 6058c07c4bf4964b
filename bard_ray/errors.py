"""The whole error model.

Who is at fault decides the class, and the class decides what the driver does.

* A user's mistake (`UserError`: configuration, data, resources, a run that does not fit) is raised
  before anything expensive starts. The driver prints its one paragraph, no traceback, and exits
  with `exit_code`.
* A fault of the machinery (`InfrastructureError`: a call timed out, an actor died, weights did not
  arrive) may be retried or the part replaced; see `actors.cluster.supervise` for the policy.
* A broken invariant (`InvariantError`) is a bug of ours: the run stops and says which balance did
  not hold.

A bad rollout is none of these: it is data (a `Verdict`), not an exception.
Every class survives pickling with its arguments, because these exceptions cross process borders.
"""

from __future__ import annotations


class BardError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self._init_args = args

    def __reduce__(self) -> tuple[type[BardError], tuple[object, ...]]:
        return type(self), self._init_args


class UserError(BardError):
    """Something the user can fix. The message says what, where, and what to do."""

    exit_code = 2


class ConfigError(UserError):
    """One field of the configuration breaks one rule."""

    def __init__(self, field: str, value: object, rule: str, fix: str) -> None:
        super().__init__(field, value, rule, fix)
        self.field, self.value, self.rule, self.fix = field, value, rule, fix

    def __str__(self) -> str:
        return f"{self.field} = {self.value!r}: {self.rule}. {self.fix}"


class DataError(UserError):
    """A data set that is missing, empty or malformed.

    `row` shows the offending row, cut to 300 characters.
    """

    def __init__(self, source: str, problem: str, fix: str, row: object = None) -> None:
        super().__init__(source, problem, fix, row)
        self.source, self.problem, self.fix, self.row = source, problem, fix, row

    def __str__(self) -> str:
        shown = "" if self.row is None else f" Row: {str(self.row)[:300]}"
        return f"{self.source}: {self.problem}. {self.fix}{shown}"


class ResourceError(UserError):
    """The cluster is smaller than the placement needs."""

    def __init__(self, resource: str, needed: float, available: float, fix: str) -> None:
        super().__init__(resource, needed, available, fix)
        self.resource, self.needed, self.available, self.fix = resource, needed, available, fix

    def __str__(self) -> str:
        needed = f"the plan needs {self.needed:g} {self.resource}"
        return f"{needed}, the cluster has {self.available:g}. {self.fix}"


class RunStateError(UserError):
    """The run directory holds something that this command cannot resume from."""

    def __init__(self, path: str, problem: str, fix: str) -> None:
        super().__init__(path, problem, fix)
        self.path, self.problem, self.fix = path, problem, fix

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}. {self.fix}"


class InfrastructureError(BardError):
    """A part of the machinery failed: a process, a time limit, a transfer."""

    exit_code = 3


class CallTimeoutError(InfrastructureError):
    """A remote call did not answer within its limit."""

    def __init__(self, what: str, limit_s: float) -> None:
        super().__init__(what, limit_s)
        self.what, self.limit_s = what, limit_s

    def __str__(self) -> str:
        return f"{self.what} gave no answer within {self.limit_s:g} s"


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
    """Weights sent and weights loaded disagree in version, names or size."""


class InvariantError(BardError):
    """A balance or bound of ours does not hold; the run stops rather than train on wrong data."""

    exit_code = 4


def first_error(error: BaseException) -> BaseException:
    """The first plain exception inside the (nested) groups that task groups wrap around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
