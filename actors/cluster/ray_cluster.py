"""The Ray side of a run.

It starts or joins a cluster, reserves bundles, hosts plain classes as actors and stops everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.cluster.env import LOOPBACK, LOOPBACK_RAY, actor_env
from actors.cluster.losses import oom_kills, reason_of
from bard_ray.config.schema import ClusterConfig
from bard_ray.errors import ActorLostError, ConfigError, ResourceError

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.util.placement_group import PlacementGroup


# Ray's record of the cluster that was last started on this machine, running or not.
CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")  # noqa: S108 Ray's own choice
PROBE_S = 3.0
SETTLE_S = 15.0  # until a cluster that cannot grow has reclaimed released resources
_SLACK = 1e-6  # tolerance for sums of fractions


def answers(address: str) -> bool:
    """Whether a cluster listens at an address; `auto` is the one recorded on this machine."""
    if address == "auto":
        address = CURRENT_CLUSTER.read_text().strip() if CURRENT_CLUSTER.exists() else ""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    except (OSError, ValueError):
        return False
    return True


def cluster_is_given() -> bool:
    """Whether the environment names a cluster: in a submitted job, or set by the user."""
    return bool(os.environ.get("RAY_ADDRESS"))


def in_submitted_job() -> bool:
    """Whether this command was started by `ray job submit`."""
    return cluster_is_given() and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@dataclass
class ActorSpec:
    """Hosting of one actor; `group` holds its bundle, None: the placement group of the run."""

    name: str
    bundle: int
    cpus: float
    gpus: float
    threads: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    group: PlacementGroup | None = None


class Cluster:
    """The Ray resources of a run: placement groups, permanent and temporary, and their actors.

    Closing it leaves no process behind.
    """

    def __init__(self, config: ClusterConfig, log_dir: Path, *, verbose: bool) -> None:
        self._config, self._log_dir, self._verbose = config, log_dir, verbose
        self._group: PlacementGroup | None = None
        self._beside: list[PlacementGroup] = []
        self._actors: list[ActorHandle] = []
        self._attempts: dict[str, int] = {}
        self._connected = False
        self._oom_kills = 0  # count before this run
        self.started_here = False

    def connect(self) -> dict[str, float]:
        """Join the given cluster or start one here; returns its resources.

        A local cluster is always new: a bare `ray.init()` would join any cluster that runs on the
        machine. A second call only returns the resources.
        """
        if not self._connected:
            common: dict[str, Any] = {
                "log_to_driver": False,
                "logging_level": logging.ERROR,
                "configure_logging": True,
            }
            if cluster_is_given():
                self._join(None, common)
            elif self._config.address != "local":
                self._join(self._config.address, common)
            else:
                self._start(common)
            self._connected = True
        import ray

        return {key: float(value) for key, value in ray.cluster_resources().items()}

    def _start(self, options: dict[str, Any]) -> None:
        """Start a cluster on this machine that listens on loopback only."""
        with _loopback_only():
            import ray

            ray.init(
                address="local",
                num_cpus=self._config.cpus or None,
                include_dashboard=False,
                _node_ip_address=LOOPBACK,
                object_store_memory=self._config.object_store_mb << 20,
                **options,
            )
        self._oom_kills = oom_kills()
        self.started_here = True

    def _join(self, address: str | None, options: dict[str, Any]) -> None:
        """Join a given cluster; probed first, because Ray waits minutes for a missing one."""
        import ray

        fix = "Start one (`ray start --head`), submit to one, or set cluster.address=local."
        missing = ConfigError(
            "cluster.address", self._config.address, "no Ray cluster answers there", fix
        )
        if address is not None and not answers(address):
            raise missing
        try:
            ray.init(address=address, **options)
        except ConnectionError as error:
            raise missing from error

    async def reserve(self, bundles: Sequence[Mapping[str, float]]) -> None:
        """Reserve all bundles at once; on an autoscaling cluster this is what makes it grow.

        Raises:
            ResourceError: they are not available within `cluster.start_timeout_s`.
        """
        import ray

        waited = f"Waited {self._config.start_timeout_s:g} s for the cluster to grow"
        fix = f"{waited}; give it more nodes or lower the worker counts."
        self._group = await _placed(bundles, self._config.start_timeout_s)
        if self._group is None:
            raise _too_small(bundles, ray.cluster_resources(), fix)

    async def reserve_beside(
        self, bundles: Sequence[Mapping[str, float]], fix: str
    ) -> PlacementGroup:
        """Reserve bundles besides those of the run, until `release` returns them.

        A cluster that was started here cannot grow, so it gets a short wait.

        Args:
            bundles: bundles to reserve, all at once.
            fix: the fix to show if they are not available.

        Raises:
            ResourceError: they are not available in time.
        """
        import ray

        limit_s = SETTLE_S if self.started_here else self._config.start_timeout_s
        if self.started_here and _lacking(bundles, ray.cluster_resources()):
            raise _too_small(bundles, ray.cluster_resources(), fix)
        group = await _placed(bundles, limit_s)
        if group is None:
            free = await asyncio.to_thread(ray.available_resources)
            raise _too_small(bundles, free, f"Waited {limit_s:g} s for free resources. {fix}")
        self._beside.append(group)
        return group

    def release(self, group: PlacementGroup) -> None:
        """Release bundles; actors that still run in them are killed."""
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(group)
        self._beside = [g for g in self._beside if g is not group]

    def spawn(self, cls: type, spec: ActorSpec, *args: Any) -> ActorHandle:
        """Host a plain class as an actor in its bundle; its output goes to `logs/<name>.log`."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        attempt = self._attempts[spec.name] = self._attempts.get(spec.name, 0) + 1
        options: dict[str, Any] = {
            "num_cpus": spec.cpus,
            "num_gpus": spec.gpus,
            "max_restarts": 0,
            "runtime_env": {
                "env_vars": actor_env(
                    threads=spec.threads, verbose=self._verbose, extra=dict(spec.env)
                )
            },
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                spec.group or self._group, placement_group_bundle_index=spec.bundle
            ),
        }
        log = str(self._log(spec.name).resolve())
        handle = ray.remote(hosted(cls, log, attempt)).options(**options).remote(*args)
        self._actors.append(handle)
        return handle

    def lost(self, name: str, what: str, error: BaseException) -> ActorLostError:
        """The error to raise for a lost actor that cannot be replaced.

        Args:
            name: name of the actor.
            what: description of the actor.
            error: Ray's error.
        """
        oom_killed = self.started_here and oom_kills() > self._oom_kills
        return ActorLostError(what, reason_of(error, oom_killed=oom_killed), str(self._log(name)))

    def _log(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    def kill(self, handle: ActorHandle) -> None:
        """Kill one actor immediately."""
        import ray

        ray.kill(handle, no_restart=True)
        self._actors = [a for a in self._actors if a is not handle]

    def vacate(self) -> None:
        """Release the bundles of the roles and kill their actors; other actors keep running."""
        if self._group is not None:
            self.release(self._group)
            self._group = None

    def close(self) -> None:
        """Kill every actor, release all bundles, and stop the cluster if it was started here."""
        import ray

        if not ray.is_initialized():
            return
        for handle in self._actors:
            ray.kill(handle, no_restart=True)
        self._actors = []
        for group in list(self._beside):
            self.release(group)
        self.vacate()
        ray.shutdown()


@contextlib.contextmanager
def _loopback_only() -> Iterator[None]:
    """Restrict a cluster that starts within the context to loopback.

    Ray's processes read the environment; this process read it when it imported Ray. Both settings
    are restored afterward, because a cluster that is joined later must not be restricted.
    """
    from ray._private import ray_constants

    before = dict(os.environ)
    os.environ.update(LOOPBACK_RAY)
    enabled, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        for name in LOOPBACK_RAY:
            del os.environ[name]
            if name in before:
                os.environ[name] = before[name]


async def _placed(bundles: Sequence[Mapping[str, float]], limit_s: float) -> PlacementGroup | None:
    """A placement group once all of it is reserved; None after `limit_s` seconds."""
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([dict(b) for b in bundles], strategy="PACK")
    try:
        await asyncio.wait_for(_ready(group), limit_s)
    except BaseException as error:
        remove_placement_group(group)  # else it would reserve resources that become free later
        if isinstance(error, TimeoutError):
            return None
        raise
    return group


def _lacking(bundles: Sequence[Mapping[str, float]], has: Mapping[str, float]) -> str:
    """The first insufficient resource; empty if all suffice."""
    names = sorted({name for bundle in bundles for name in bundle}, reverse=True)
    needed = {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in names}
    return next((n for n in names if needed[n] > has.get(n, 0.0) + _SLACK), "")


def _too_small(
    bundles: Sequence[Mapping[str, float]], has: Mapping[str, float], fix: str
) -> ResourceError:
    """The error for bundles that do not fit, in total or on any single node."""
    used = "GPU" if any(bundle.get("GPU") for bundle in bundles) else "CPU"
    resource = _lacking(bundles, has) or used
    needed = sum(bundle.get(resource, 0.0) for bundle in bundles)
    return ResourceError(resource, needed, float(has.get(resource, 0.0)), fix)


async def _ready(group: PlacementGroup) -> None:
    await group.ready()


def hosted(cls: type, log_path: str, attempt: int) -> type:
    """The class as an actor runs it, with all its output in `log_path`."""

    def start(self: Any, *args: Any) -> None:
        redirect_output(log_path, attempt)
        cls.__init__(self, *args)  # type: ignore[misc]

    body = {"__init__": start, "__module__": __name__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), body)


def redirect_output(path: str, attempt: int) -> None:
    """Append this process's standard output and error to a file, including C libraries."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, f"--- attempt {attempt}, process {os.getpid()}\n".encode())
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
