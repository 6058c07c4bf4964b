"""Model text is never run: nothing in the tree could."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN_NAMES = {"eval", "exec", "compile", "sympify", "parse_expr", "__import__"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
VERIFY = sorted((ROOT / "bard_ray" / "verify").rglob("*.py"))
LIBRARY = sorted(
    path for package in ("bard_ray", "actors", "recipes") for path in (ROOT / package).rglob("*.py")
)


def calls(tree: ast.AST) -> set[str]:
    """Names that are called bare, such as `eval`; methods of objects (`model.eval()`) are not."""
    nodes = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {str(node.module).partition(".")[0], *(alias.name for alias in node.names)}
    return found


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_evaluates_text(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not calls(tree) & FORBIDDEN_NAMES
    assert not imports(tree) & {"sympify", "parse_expr", "sympy"}


@pytest.mark.parametrize("path", VERIFY, ids=lambda path: path.name)
def test_grading_unpickles_nothing(path: Path) -> None:
    assert not imports(ast.parse(path.read_text(encoding="utf-8"))) & FORBIDDEN_MODULES
