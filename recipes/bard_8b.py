"""BARD for an 8B student on one node of 8 GPUs with 80 GB each: 4 learner ranks, 3 rollout workers, 1 reference.

Student: Qwen/Qwen3-8B-Base (Apache 2.0). Teacher chains: open-r1/OpenR1-Math-220k (Apache 2.0), solutions of
DeepSeek-R1, shortened after the fact to the budgets. Both have to be on every node beforehand (a shared directory, or
the Hugging Face cache). This recipe was planned and checked, and run at tiny size; at 8B it has not been run here.

    ray job submit --address http://HEAD:8265 --working-dir . -- python recipes/bard_8b.py
    python recipes/bard_8b.py --dry-run
    python recipes/bard_8b.py $(cat tests/fixtures/tiny_overrides.txt)     the same file, end to end, on two CPU cores

"Paper" marks numbers of the method's papers (BARD, and DED for the corpus size); what is not marked is ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file from anywhere: the packages beside this directory are found
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bard_ray.config import schema as s
