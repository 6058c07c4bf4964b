"""Child processes of a benchmark: whole recipes, modules that print JSON, contestants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.common import CACHE, ROOT

CLOSE_S = 60.0
JSON_LINE = '{"'  # libraries print Python dicts, which begin with a single quote


def child_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with the checkout on the path and without a given cluster.

    Ray lowers the priority of its workers. Here they get the same priority as the processes they
    are compared with; otherwise other load on the machine would slow down only one side.
    """
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    paths = [str(ROOT), *env.get("PYTHONPATH", "").split(os.pathsep)]
    env |= {"PYTHONPATH": os.pathsep.join(p for p in paths if p), "RAY_worker_niceness": "0"}
    return env | dict(extra or {})


def module_command(module: str, *arguments: str) -> list[str]:
    """A module of this checkout as a command."""
    return [sys.executable, "-m", module, *arguments]


def recipe_command(*overrides: str) -> list[str]:
    """The tiny recipe as a command."""
    return module_command("recipes.bard_tiny", *overrides)


def run_recipe(*overrides: str) -> None:
    """Run the tiny recipe in a separate process; its output is shown only if it fails."""
    _output("the recipe", recipe_command(*overrides))


def json_lines(
    module: str, *arguments: str, env: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The JSON objects that a module prints, one per line."""
    lines = _output(module, module_command(module, *arguments), env).splitlines()
    return [json.loads(line) for line in lines if line.startswith(JSON_LINE)]


def _output(what: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Standard output of a command; exits with the end of what it printed if it fails."""
    done = subprocess.run(
        list(command),
        cwd=ROOT,
        env=child_env(env),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{what} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


class ChildProcess:
    """A contestant in a separate process.

    It answers each JSON line with one JSON line, and sleeps in between.
    """

    def __init__(self, name: str, command: Sequence[str], cores: set[int]) -> None:
        self.name = name
        self._log = CACHE / f"{name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env=child_env(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    def ask(self, question: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send one line, if any, and wait for the next answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if question is not None:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(JSON_LINE):
                answer: dict[str, Any] = json.loads(line)
                return answer
        tail = "\n".join(self._log.read_text().splitlines()[-8:])
        sys.exit(f"contestant {self.name} ended without an answer; {self._log} ends with:\n{tail}")

    def close(self) -> None:
        """Close its input and wait until it ends; kill it if it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Serve requests in a contestant: report readiness, then answer until the input ends."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
