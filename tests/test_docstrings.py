"""Every public module, class, function and method of Hanse says what it is, or what it is part of says it.

Public is what has no leading underscore, in a file without one. A name needs no docstring of its own where its
contract has one:

- a method that a Protocol of Hanse documents, of a class that has all members of that Protocol;
- in the file of an ingredient: the class that the file is about, which the file's docstring describes; functions and
  methods that the page of the folder's kind names (``hanse/models/__init__.py``, ...), or that are fields of
  :class:`hanse.queries.Statistic` and :class:`hanse.presentation.Shown`, which describe them.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from hanse.presentation import Shown
from hanse.queries import Statistic
from hanse.registry import FOLDERS
from tests.sources import FILES, ROOT, nodes, tree

PUBLIC = [p for p in FILES if not p.name.startswith("_") or p.name == "__init__.py"]
Function = ast.FunctionDef | ast.AsyncFunctionDef
HALVES = {field.name for kind in (Statistic, Shown) for field in dataclasses.fields(kind)}


@functools.cache
def classes() -> dict[str, ast.ClassDef]:
    return {n.name: n for path in PUBLIC for n in tree(path).body if isinstance(n, ast.ClassDef)}


def methods(cls: ast.ClassDef) -> dict[str, Function]:
    return {n.name: n for n in cls.body if isinstance(n, Function) and not n.name.startswith("_")}


def members(cls: ast.ClassDef) -> set[str]:
    """Names of methods, fields and values of a class, and of those of this package that it extends."""
    plain = {n.target.id for n in cls.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    given = {t.id for n in cls.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    own = {
        t.attr
        for n in ast.walk(cls)
        if isinstance(n, ast.Assign | ast.AnnAssign)
        for t in (n.targets if isinstance(n, ast.Assign) else [n.target])
        if isinstance(t, ast.Attribute) and isinstance(t.value, ast.Name) and t.value.id == "self"
    }
    bases = [classes()[b.id] for b in cls.bases if isinstance(b, ast.Name) and b.id in classes()]
    return {*methods(cls), *plain, *given, *own}.union(*(members(b) for b in bases if not is_protocol(b)))


def is_protocol(cls: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in cls.bases)


@functools.cache
def protocols() -> list[tuple[set[str], set[str]]]:
    """(all members, documented methods) of each Protocol, with those of the Protocols that it extends."""
    found = {n.name: n for path in PUBLIC for n in nodes(path) if isinstance(n, ast.ClassDef) and is_protocol(n)}
    made = []
    for cls in found.values():
        whole = [cls, *(found[b.id] for b in cls.bases if isinstance(b, ast.Name) and b.id in found)]
        made.append(
            (
                set().union(*(members(c) for c in whole)),
                {name for c in whole for name, m in methods(c).items() if ast.get_docstring(m)},
            )
        )
    return made


def public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    yield from (n for n in body if isinstance(n, Function | ast.ClassDef) and not n.name.startswith("_"))


def undocumented(path: Path) -> Iterator[str]:
    folder, file = path.parent.name, tree(path)
    if not ast.get_docstring(file):
        yield path.name
    ingredient = path.parent.parent == ROOT and folder in FOLDERS and path.name != "__init__.py"
    page = ast.get_docstring(tree(path.parent / "__init__.py")) or "" if ingredient else ""
    contract = {name for part in re.findall(r"``([^`\n]+)``", page) for name in re.findall(r"\w+", part)}
    contract |= HALVES if ingredient and folder == "statistics" else set()
    alone = sum(isinstance(n, ast.ClassDef) for n in public(file.body)) == 1
    for node in public(file.body):
        said = ast.get_docstring(node) is not None
        if isinstance(node, ast.ClassDef):
            if not said and not (ingredient and alone):
                yield node.name
            has = members(node)
            known = contract.union(*(documented for whole, documented in protocols() if whole <= has))
            told = set() if is_protocol(node) else known
            plain = [name for name, method in methods(node).items() if not ast.get_docstring(method)]
            yield from (f"{node.name}.{name}" for name in plain if name not in told)
        elif not said and node.name not in contract:
            yield node.name


def test_what_is_public_says_what_it_is() -> None:
    assert [f"{path.relative_to(ROOT)}: {name}" for path in PUBLIC for name in undocumented(path)] == []


def test_a_name_without_a_docstring_is_found(tmp_path: Path) -> None:
    source = "'A file.'\nclass A:\n    'A.'\n    def b(self): ...\n    def _c(self): ...\ndef d(): ...\ndef _e(): ..."
    path = tmp_path / "file.py"
    path.write_text(source)
    assert list(undocumented(path)) == ["A.b", "d"]
