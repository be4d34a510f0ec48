"""Files of the product, parsed."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def files(root: Path = ROOT) -> list[Path]:
    places = ("adaptr", "plugins")
    return sorted(file for place in places for file in (root / place).rglob("*.py") if "__pycache__" not in file.parts)


@functools.cache
def parsed(root: Path = ROOT) -> dict[str, ast.Module]:
    """Path from the root to what is in the file."""
    return {str(file.relative_to(root)): ast.parse(file.read_text("utf-8")) for file in files(root)}


def last(node: ast.AST | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
