"""Placement and memory plan: the processes of a run, their Ray resources, and whether they fit.

The plan is computed from the configuration alone, before Ray starts. `--dry-run` prints it, and
`actors.placement.deployment` turns it into bundles.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bard_ray.config.schema import Config, LearnerConfig, VerifierConfig
from bard_ray.distill.build_steps import required_roles
from bard_ray.distill.teacher import EngineSpec, make_backends, served_models
from bard_ray.errors import ResourceError
from bard_ray.preflight.host_memory import driver_memory, ray_memory
from bard_ray.preflight.memory import (
    GIB,
    MIB,
    VERIFIER_BYTES,
    DeviceMemory,
    ModelShape,
    learner_memory,
    model_shape,
    reference_memory,
    rollout_memory,
    sequence_cache_bytes,
)
from bard_ray.preflight.needs import builds_corpus, trains

RoleName = Literal["rollout", "learner", "reference", "verifier"]

# Tolerance for sums of fractional resources such as 0.75 + 0.25.
_SLACK = 1e-6
MAX_AUTO_VERIFIERS = 16
MAX_AUTO_THREADS = 16
# Of the free CPUs, where the learner's threads take the others: grading is light beside training.
VERIFIER_SHARE = 0.25

_MEMORY_FIXES: dict[RoleName, str] = {
    "rollout": "Raise rollout.tensor_parallel (with rollout.gpus) or "
    "rollout.gpu_memory_utilization, or lower student.max_len.",
    "learner": "Raise learner.ranks or learner.zero_stage, lower learner.micro_tokens, "
    "or set learner.recompute=true.",
    "reference": "Set reference.precision=bfloat16, lower learner.micro_tokens, "
    "or set rl.kl_coef=0.",
    "verifier": "Lower verifier.workers.",
}


@dataclass(frozen=True, slots=True)
class Role:
    """`count` identical processes; CPUs and GPUs per process, memory per device."""

    name: RoleName
    count: int
    cpus: float
    gpus: float
    memory: DeviceMemory

    @property
    def bundle(self) -> dict[str, float]:
        """Resources of one process, in Ray's names."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


@dataclass(frozen=True, slots=True)
class Plan:
    """All processes of a run, and the student they are planned for."""

    run_name: str
    student: ModelShape
    roles: tuple[Role, ...]
    # bytes of key-value cache that one sequence of full length needs on a rollout device
    sequence_cache: float
    # models that serve as teachers while the corpus is built, by the configuration's names
    teachers: Mapping[str, EngineSpec] = field(default_factory=dict)
    driver: DeviceMemory = field(default_factory=DeviceMemory)
    ray: DeviceMemory = field(default_factory=DeviceMemory)  # nothing on a given cluster

    def role(self, name: RoleName) -> Role | None:
        """The role of this name; None if the run does not use it."""
        return next((role for role in self.roles if role.name == name), None)

    def only(self, names: Collection[RoleName]) -> Plan:
        """The plan restricted to these roles."""
        return replace(self, roles=tuple(role for role in self.roles if role.name in names))

    def total(self, resource: Literal["CPU", "GPU"]) -> float:
        """Sum over all processes."""
        return sum(role.count * role.bundle.get(resource, 0.0) for role in self.roles)

    @property
    def cached_sequences(self) -> int:
        """Number of `student.max_len`-token sequences that one rollout worker's cache holds.

        It holds more sequences if they are shorter.
        """
        rollout = self.role("rollout")
        return int(rollout.memory.parts["kv cache"] // self.sequence_cache) if rollout else 0

    @property
    def host_bytes(self) -> float:
        """Main memory of the driver, of Ray, and of the roles that use no GPU."""
        roles = sum(role.count * role.memory.total for role in self.roles if not role.gpus)
        return roles + self.driver.total + self.ray.total


def plan_placement(config: Config) -> Plan:
    """Compute the plan of a checked configuration.

    There is no learner where nothing is trained, and no reference where nothing uses it.

    Raises:
        ConfigError: the student's size is unknown.
    """
    shape = model_shape(config)
    rollout, learner, reference, verifier = (
        config.rollout,
        config.learner,
        config.reference,
        config.verifier,
    )
    roles = [
        Role("rollout", rollout.workers, rollout.cpus, rollout.gpus, rollout_memory(config, shape))
    ]
    trained = trains(config)
    if trained:
        memory = learner_memory(config, shape)
        roles.append(Role("learner", learner.ranks, learner.cpus, learner.gpus, memory))
    scores_chains = builds_corpus(config) and "reference" in required_roles(config.distill)
    if scores_chains or (trained and config.rl.enabled and config.rl.kl_coef > 0):
        roles.append(
            Role("reference", 1, reference.cpus, reference.gpus, reference_memory(config, shape))
        )
    grading = DeviceMemory({"process": VERIFIER_BYTES})
    roles.append(Role("verifier", max(1, verifier.workers), verifier.cpus, 0.0, grading))
    return Plan(
        config.run.name,
        shape,
        tuple(roles),
        sequence_cache_bytes(config, shape),
        served_teachers(config),
        driver_memory(config),
        ray_memory(config),
    )


def served_teachers(config: Config) -> dict[str, EngineSpec]:
    """Teachers that run on rollout workers of their own, in addition to the roles."""
    return served_models(make_backends(config.distill.teachers))


def sized(config: Config, available: Mapping[str, float], *, local: bool) -> Config:
    """The configuration with automatic counts resolved for a cluster.

    Args:
        config: a checked configuration.
        available: resources of the cluster, in Ray's names.
        local: the cluster is started on this machine for this run.

    Source: ours.
    """
    config = replace(config, verifier=_sized_verifier(config, available, local=local))
    return replace(config, learner=_sized_learner(config, available, local=local))


def _sized_verifier(
    config: Config, available: Mapping[str, float], *, local: bool
) -> VerifierConfig:
    """Resolve `verifier.workers=0` to as many workers as fit into the free CPUs.

    Math:
        floor(share (CPUs - those of other roles and of teachers that are up) / verifier.cpus),
        between 1 and `MAX_AUTO_VERIFIERS`; share is `VERIFIER_SHARE` where the learner's threads
        take what is left, else 1
    """
    verifier = config.verifier
    if verifier.workers > 0:
        return verifier
    one = plan_placement(config)
    free = available.get("CPU", 0.0) - one.total("CPU") + verifier.cpus
    free -= _teacher_cpus(one, config.distill.compressor.writer)
    if local and not config.learner.threads:
        free *= VERIFIER_SHARE
    fitting = math.floor(free / verifier.cpus + _SLACK) if verifier.cpus else 1
    return replace(verifier, workers=min(max(fitting, 1), MAX_AUTO_VERIFIERS))


def _sized_learner(config: Config, available: Mapping[str, float], *, local: bool) -> LearnerConfig:
    """Resolve `learner.threads=0` and `learner.sft_threads=0` to the CPUs that a rank may use.

    Math (between 1 and `MAX_AUTO_THREADS`):
        threads      local: floor((CPUs - those of other roles) / ranks), else floor(learner.cpus)
        sft_threads  local: floor(CPUs / ranks), else floor(learner.cpus)
    """
    learner = config.learner
    if learner.threads > 0:
        return replace(learner, sft_threads=learner.sft_threads or learner.threads)
    shared = alone = learner.cpus
    if local:
        alone = available.get("CPU", 0.0) / learner.ranks
        others = (role for role in plan_placement(config).roles if role.name != "learner")
        shared = alone - sum(role.count * role.cpus for role in others) / learner.ranks
    return replace(
        learner,
        threads=_threads(shared),
        sft_threads=learner.sft_threads or _threads(alone),
    )


def _threads(cpus: float) -> int:
    return min(max(1, math.floor(cpus + _SLACK)), MAX_AUTO_THREADS)


def _teacher_cpus(plan: Plan, writer: str) -> float:
    """Peak CPUs of teachers: the largest teacher plus the one that rewrites."""
    takes = {name: spec.workers * spec.cpus for name, spec in plan.teachers.items()}
    return takes.pop(writer, 0.0) + max(takes.values(), default=0.0)


def check_resources(plan: Plan, available: Mapping[str, float]) -> None:
    """Compare the plan with the resources that the cluster has or can grow to.

    Args:
        plan: plan of the run.
        available: resources in Ray's names, for example {"CPU": 2, "GPU": 0}.

    Raises:
        ResourceError: the plan exceeds them.
    """
    for resource in ("GPU", "CPU"):
        needed, has = plan.total(resource), available.get(resource, 0.0)
        if needed > has + _SLACK:
            raise ResourceError(f"{resource}s", needed, has, _lower(plan, resource))


def _lower(plan: Plan, resource: str) -> str:
    """The fix for a resource shortage: every field that could be lowered, with its usage."""
    counts = {
        "rollout": "rollout.workers",
        "learner": "learner.ranks",
        "verifier": "verifier.workers",
    }
    takers = [role for role in plan.roles if role.bundle.get(resource)]
    parts = [
        f"{counts.get(r.name, 'rl.kl_coef (0: no reference)')} ({_takes(r, resource)})"
        for r in takers
    ]
    shares = ", ".join(f"{role.name}.{resource.lower()}s" for role in takers)
    grow = "raise cluster.cpus" if resource == "CPU" else "add nodes with GPUs"
    return f"Lower {', '.join(parts)}, or the shares {shares}; or {grow}."


def _takes(role: Role, resource: str) -> str:
    return f"{role.count} x {role.bundle[resource]:g} {resource}"


def check_memory(plan: Plan, host_gib: float | None = None) -> None:
    """Check that every device can hold its part of the plan.

    Args:
        plan: plan of the run.
        host_gib: main memory of the machine, if all roles without a GPU share it.

    Raises:
        ResourceError: a device's plan exceeds its memory, or the cache cannot hold one sequence.
    """
    for role in plan.roles:
        capacity = role.memory.capacity
        if capacity is not None and role.memory.total > capacity:
            _refuse(
                f"GiB of memory on each {role.name} device",
                role.memory.total,
                capacity,
                _MEMORY_FIXES[role.name],
            )
        cache = role.memory.parts.get("kv cache")
        if cache is not None and cache < plan.sequence_cache:
            fix = "Raise rollout.kv_cache_mb or lower student.max_len."
            _refuse("GiB of key-value cache on a rollout worker", plan.sequence_cache, cache, fix)
    if host_gib is not None and plan.host_bytes > host_gib * GIB:
        fix = (
            "Lower rollout.workers, learner.ranks, verifier.workers or rollout.kv_cache_mb, "
            "or use a smaller student."
        )
        _refuse("GiB of main memory", plan.host_bytes, host_gib * GIB, fix)


def _refuse(resource: str, needed: float, available: float, fix: str) -> None:
    raise ResourceError(resource, round(needed / GIB, 2), round(available / GIB, 2), fix)


def host_memory_gib() -> float:
    """Main memory of this machine in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def render(plan: Plan) -> str:
    """The plan as a table, for `--dry-run` and the log."""
    student = plan.student
    lines = [
        f"{plan.run_name}: {summary(plan)}",
        f"student: {_count(student.params)} parameters, {student.layers} layers, "
        f"hidden {student.hidden} (sizes: {student.source})",
        "",
        f"{'role':<10}{'count':>6}{'CPUs':>7}{'GPUs':>6}{'memory':>10}{'of':>10}  made of",
        *map(_row, plan.roles),
        *(
            _host_row(name, m)
            for name, m in (("driver", plan.driver), ("ray", plan.ray))
            if m.parts
        ),
        f"{'total':<10}{'':>6}{plan.total('CPU'):>7g}{plan.total('GPU'):>6g}",
        *(_teacher_row(name, spec) for name, spec in plan.teachers.items()),
        "",
        "memory: of each process, on its GPU where it has one; activations, logits and process are"
        " estimates",
        f"main memory of all without a GPU: {_size(plan.host_bytes)}",
        f"sequences of full length in a rollout worker's cache: {plan.cached_sequences}",
    ]
    return "\n".join(lines)


def summary(plan: Plan) -> str:
    """One line for the terminal: `1 rollout worker, 2 learner ranks, 1 verifier`."""
    words = {"rollout": "rollout worker", "learner": "learner rank"}
    return ", ".join(
        f"{r.count} {words.get(r.name, r.name)}{'s' if r.count > 1 else ''}" for r in plan.roles
    )


def _row(role: Role) -> str:
    memory = role.memory
    limit = "-" if memory.capacity is None else _size(memory.capacity)
    numbers = f"{role.count:>6}{role.cpus:>7g}{role.gpus:>6g}{_size(memory.total):>10}{limit:>10}"
    return f"{role.name:<10}{numbers}  {_parts(memory)}"


def _host_row(name: str, memory: DeviceMemory) -> str:
    return f"{name:<10}{1:>6}{'-':>7}{'-':>6}{_size(memory.total):>10}{'-':>10}  {_parts(memory)}"


def _parts(memory: DeviceMemory) -> str:
    return ", ".join(f"{name} {_size(size)}" for name, size in memory.parts.items())


def _teacher_row(name: str, spec: EngineSpec) -> str:
    takes = f"{spec.workers:>6}{spec.cpus:>7g}{spec.gpus:>6g}{'-':>10}{'-':>10}"
    return f"{name[:10]:<10}{takes}  {spec.model}, a teacher while the corpus is made"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / GIB:.1f} GiB" if num_bytes >= GIB else f"{num_bytes / MIB:.0f} MiB"


def _count(params: float) -> str:
    """A number of parameters in short form: 435 k, 1.7 B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if params >= size:
            return f"{params / size:.3g} {unit}"
    return str(int(params))
