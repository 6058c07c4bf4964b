"""The data of a recipe alone: questions to a curated, budget-labeled corpus, and a report on it.

Steps keep their outputs in `distill.store`, so the recipe itself, run later on the same machine,
makes none of them again.

    python recipes/distill.py --recipe bard_tiny
    python recipes/distill.py --recipe bard_8b data.rows.path=my.jsonl data.rows.format=rows
    python recipes/distill.py --recipe bard_8b --dry-run
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace

from bard_ray.config import schema as s

RECIPES = ("bard_8b", "bard_tiny")


def config(recipe: str = "bard_8b") -> s.Config:
    """Configuration of a recipe without its training, but for what its data needs."""
    whole: s.Config = importlib.import_module(f"recipes.{recipe}").config()
    return replace(
        whole,
        run=replace(whole.run, name=f"{whole.run.name}_data"),
        sft_full=replace(whole.sft_full, enabled=False),
        sft=replace(whole.sft, enabled=False),
        rl=replace(whole.rl, enabled=False),
        evaluate=replace(whole.evaluate, enabled=False),
    )


def _recipe(arguments: list[str]) -> tuple[str, list[str]]:
    """The recipe's name, and the arguments without it."""
    if "--recipe" not in arguments:
        return RECIPES[0], arguments
    place = arguments.index("--recipe")
    name = arguments[place + 1] if place + 1 < len(arguments) else ""
    if name not in RECIPES:
        sys.exit(f"--recipe takes one of {', '.join(RECIPES)}, not {name!r}")
    return name, arguments[:place] + arguments[place + 2 :]


if __name__ == "__main__":
    from actors.driver import main

    chosen, rest = _recipe(sys.argv[1:])
    sys.exit(main(config(chosen), rest))
