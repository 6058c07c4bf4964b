"""The process that renders the report of an unfinished run.

`bard_ray.report.live` starts it:

    python -m bard_ray.report.render <pid of the parent> < request.json > page.html
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(parent: int) -> None:
    """Read a request from standard input, write the page to standard output."""
    yield_to_others()
    # Imports are a good part of the work, so they come after the line above.
    from bard_ray.report.html import report_page
    from bard_ray.report.results import partial_results
    from bard_ray.report.status import RunStatus
    from bard_ray.verify.process.zygote import die_with

    die_with(parent)
    request = json.load(sys.stdin)
    run_dir, status = Path(request["run_dir"]), RunStatus(**request["status"])
    results = partial_results(run_dir, status.wall_s, request["config"])
    page = report_page(run_dir, request["title"], results, status)
    sys.stdout.buffer.write(page.encode())


def yield_to_others() -> None:
    """Run only on idle CPUs, or at the lowest priority if the system does not support that."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


if __name__ == "__main__":
    main(int(sys.argv[1]))
