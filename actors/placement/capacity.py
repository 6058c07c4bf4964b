"""Check that a plan fits its cluster before any process starts."""

from __future__ import annotations

import os
from pathlib import Path

from actors.cluster.ray_cluster import Cluster, cluster_is_given
from actors.placement.plan import Plan, check_memory, check_resources, host_memory_gib, sized
from bard_ray.config.schema import Config
from bard_ray.errors import ConfigError


def starts_here(config: Config) -> bool:
    """Whether this command starts the cluster on this machine."""
    return config.cluster.address == "local" and not cluster_is_given()


def sized_here(config: Config) -> Config:
    """The configuration with workers and threads resolved, if this machine will be the cluster.

    A given cluster may grow, so there they are resolved after joining it.
    """
    if not starts_here(config):
        return config
    has = local_resources(config)
    real = float(os.cpu_count() or 1)
    return sized(config, has | {"CPU": min(has["CPU"], real)}, local=True)


def check_plan(plan: Plan, config: Config) -> None:
    """Check that a plan fits each device and, for a local cluster, this machine.

    A given cluster may grow, so there only the placement itself decides.

    Raises:
        ResourceError: the plan does not fit.
    """
    check_memory(plan, host_memory_gib() if starts_here(config) else None)
    if starts_here(config):
        check_resources(plan, local_resources(config))


def check_given_cluster(plan: Plan, config: Config) -> bool:
    """Compare a plan with the current resources of the given cluster; False if none answers.

    Raises:
        ResourceError: the plan does not fit.
    """
    cluster = Cluster(config.cluster, Path(config.run.dir), verbose=False)
    try:
        has = cluster.connect()
    except ConfigError:
        return False
    finally:
        cluster.close()
    check_resources(plan, has)
    return True


def local_resources(config: Config) -> dict[str, float]:
    """Resources of a cluster started on this machine; counting GPUs needs no driver."""
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = gpus if visible is None else len([d for d in visible.split(",") if d])
    return {"CPU": float(config.cluster.cpus or os.cpu_count() or 1), "GPU": float(gpus)}
