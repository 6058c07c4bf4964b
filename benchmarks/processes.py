"""Processor seconds and memory of a process and its descendants, by role.

On a machine whose cores are all busy, wall time includes waiting for other processes; processor
time shows which of them used the cores.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
PARENT, USER, SYSTEM = 1, 11, 12  # places in /proc/<pid>/stat after the name
RAY_TITLE = "ray::"
ROLES = {
    "RolloutWorker": "rollout",
    "LearnerActor": "learner",
    "VerifierWorker": "verifier",
    "ReferenceWorker": "reference",
}


def cpu_seconds(root: int | None = None) -> dict[str, float]:
    """Seconds so far by role: driver, rollout, learner, verifier, reference, ray.

    A child has the role of its parent unless its title says otherwise. Ended processes are missing.
    """
    totals: dict[str, float] = defaultdict(float)
    for role, seconds in _by_role(os.getpid() if root is None else root).values():
        totals[role] += seconds
    return dict(totals)


def peak_memory(root: int) -> dict[int, tuple[str, float]]:
    """Role of every living process below `root`, and its largest resident size so far in bytes."""
    peaks = {}
    for pid, (role, _) in _by_role(root).items():
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        size = re.search(r"VmHWM:\s*(\d+) kB", status)
        if size:
            peaks[pid] = role, float(size[1]) * 1024
    return peaks


def _by_role(root: int) -> dict[int, tuple[str, float]]:
    """Role and processor seconds of a process and its descendants, by process id."""
    found = {pid: read for pid in _pids() if (read := _read(pid)) is not None}
    children: dict[int, list[int]] = defaultdict(list)
    for pid, (parent, _, _) in found.items():
        children[parent].append(pid)
    roles: dict[int, tuple[str, float]] = {}
    open_ = [(root, "driver")] if root in found else []
    while open_:
        pid, role = open_.pop()
        roles[pid] = role, found[pid][1]
        open_ += [(child, _role(found[child][2], role)) for child in children[pid]]
    return roles


def used(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Seconds between two readings, by role."""
    return {role: after[role] - before.get(role, 0.0) for role in after}


def _role(title: str, of_parent: str) -> str:
    """Role of a process by its title, else its parent's; the driver's children belong to Ray."""
    name = title.removeprefix(RAY_TITLE).partition(".")[0].partition("(")[0]
    if title.startswith(RAY_TITLE):
        return ROLES.get(name, "ray")
    return "ray" if of_parent == "driver" else of_parent


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int) -> tuple[int, float, str] | None:
    """Parent, processor seconds and command line of a process; None if it has just ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    seconds = (int(fields[USER]) + int(fields[SYSTEM])) * TICK_S
    return int(fields[PARENT]), seconds, title.replace(b"\0", b" ").decode(errors="replace").strip()
