"""Short descriptions of why an actor was lost, in place of Ray's list of possible causes."""

from __future__ import annotations

from pathlib import Path

# Parts of Ray's messages and their meaning; the first match counts.
_MEANINGS = (
    ("node has died", "its node was lost"),
    ("node is dead", "its node was lost"),
    ("killed by `ray.kill`", "this run ended it"),
    ("INTENDED_SYSTEM_EXIT", "Ray ended its process"),
    ("SYSTEM_ERROR", "its process was killed or crashed"),
    ("Worker unexpectedly exits", "its process was killed or crashed"),
    ("worker died", "its process was killed or crashed"),
    ("worker process has died", "its process was killed or crashed"),
)


def is_loss(error: BaseException) -> bool:
    """Whether the error of a remote call means that the actor is lost."""
    import ray.exceptions as rex

    lost = rex.RayActorError, rex.OutOfMemoryError, rex.WorkerCrashedError, rex.NodeDiedError
    return isinstance(error, lost)


def reason_of(error: BaseException, *, oom_killed: bool = False) -> str:
    """Describe how an actor ended, as far as Ray and the kernel report it.

    Args:
        error: Ray's error for a call of the actor.
        oom_killed: whether the kernel's OOM killer has killed a process of this run.
    """
    import ray.exceptions as rex

    if isinstance(error, rex.OutOfMemoryError):
        return "Ray killed its process because the node was low on memory"
    if isinstance(error, rex.NodeDiedError) or getattr(error, "preempted", False):
        return "its node was lost"
    if getattr(error, "actor_init_failed", False):
        return f"it failed to start ({str(error).strip().splitlines()[-1][:300]})"
    if isinstance(error, rex.ActorUnavailableError):
        return "it cannot be reached"
    found = next((meaning for part, meaning in _MEANINGS if part in str(error)), "it died")
    killed = found == "its process was killed or crashed" and oom_killed
    return "the kernel killed its process because memory ran out (OOM)" if killed else found


def oom_kills(root: Path = Path("/")) -> int:
    """Number of processes of this control group that the kernel's OOM killer has killed so far.

    Falls back to the count of the whole machine, and to 0 if the kernel has none.
    """
    for path in (*_group_files(root), root / "proc/vmstat"):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        counts = [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
        if counts:
            return counts[0]
    return 0


def _group_files(root: Path) -> list[Path]:
    """Files that count events of this process's control group, in versions 2 and 1.

    Inside a container the path given by the kernel may not exist; there the root is the group.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    files = []
    for _, controllers, group in (line.split(":", 2) for line in lines if line):
        if controllers == "":
            base, name = root / "sys/fs/cgroup", "memory.events"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.oom_control"
        else:
            continue
        files += [base / group.lstrip("/") / name, base / name]
    return files
