"""`ray job submit` against a head node started on this machine, with token authentication."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines.runs import MARK, ROOT, SMALL, marked

pytestmark = [pytest.mark.engines, pytest.mark.slow, pytest.mark.timeout(400)]


@dataclass
class Head:
    """A running head node: what a client needs in its environment, and where jobs go."""

    environment: dict[str, str]
    jobs: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ray(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ray")), *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Its own processes are killed by id: `ray stop` would end every Ray on the machine."""
    home, mark = tempfile.mkdtemp(prefix="bard_head_"), uuid.uuid4().hex
    token = Path(home) / "token"
    token.write_text(uuid.uuid4().hex)
    token.chmod(0o600)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment = kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # an activated environment
        MARK: mark,
    }
    gcs, dashboard = free_port(), free_port()
    started = ray(
        environment, "start", "--head", f"--port={gcs}", "--node-ip-address=127.0.0.1",
        f"--dashboard-port={dashboard}",
        # The default port of the agent belongs to any other cluster on this machine.
        f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={home}/r", "--num-cpus=6",
        "--object-store-memory=268435456",
    )  # fmt: skip
    assert started.returncode == 0, started.stdout + started.stderr
    yield Head(environment, f"http://127.0.0.1:{dashboard}")
    for pid in marked(mark):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home, ignore_errors=True)


def submit(head: Head, *command: str) -> subprocess.CompletedProcess[str]:
    """Submit a command from the checkout and wait for its end."""
    arguments = ["job", "submit", "--address", head.jobs, "--working-dir", ".", "--", *command]
    for _ in range(20):  # a head node takes jobs some seconds after it is up
        done = ray(head.environment, *arguments)
        if "No available agent" not in done.stderr:
            break
        time.sleep(3)
    return done


def test_a_submitted_recipe_runs_on_the_given_cluster(head, tmp_path):
    overrides = [*SMALL, f"run.dir={tmp_path}", "run.name=job", "rl.steps=2"]
    done = submit(head, "python", "recipes/bard_tiny.py", *overrides)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "succeeded" in done.stdout + done.stderr
    results = json.loads((tmp_path / "job" / "results.json").read_text())
    assert set(results["variants"]) == {"sft", "rl"}


def test_a_submitted_recipe_must_write_where_its_output_survives(head):
    done = submit(head, "python", "recipes/bard_8b.py", "--dry-run")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "run.dir = 'runs'" in said
    assert "run.dir=/shared/runs" in said


def test_without_the_token_nothing_runs(head):
    environment = {k: v for k, v in head.environment.items() if not k.startswith("RAY_AUTH")}
    refused = ray(
        environment | {"RAY_AUTH_MODE": "disabled"}, "job", "list", "--address", head.jobs
    )
    assert refused.returncode != 0
    assert "auth" in (refused.stdout + refused.stderr).lower()
