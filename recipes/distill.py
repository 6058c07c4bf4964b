r"""The data of a recipe alone: questions to a curated, budget-labeled corpus, and a report on it.

Steps keep their outputs in `distill.store`, so the recipe itself, run later on the same machine,
makes none of them again. The same as `bard-ray data`:

    python recipes/distill.py --recipe bard_tiny
    python recipes/distill.py --recipe path/to/my_recipe.py data.rows.path=my.jsonl
    python recipes/distill.py --recipe bard_8b --dry-run
    ray job submit --address http://HEAD:8265 --working-dir . -- \
        python recipes/distill.py --recipe bard_8b run.dir=/shared/runs
"""

from __future__ import annotations

import sys

from actors.cli import DEFAULT_RECIPE, corpus_only, load_recipe, main
from bard_ray.config import schema as s


def config(recipe: str = DEFAULT_RECIPE) -> s.Config:
    """Configuration of a recipe's data."""
    return corpus_only(load_recipe(recipe))


if __name__ == "__main__":
    sys.exit(main(["data", *sys.argv[1:]]))
