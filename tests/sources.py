"""The files of Hanse as trees, each parsed once for all tests that look at them."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import hanse

ROOT = Path(hanse.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All that stands in a file, in the order of :func:`ast.walk`."""
    return tuple(ast.walk(tree(path)))
