"""docs/security.md names tests that exist, for everything that it says is enforced."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
ENFORCED = PAGE[PAGE.index("## What is enforced where") : PAGE.index("## Fuzzing")]
ROWS = [line.strip("| ").split(" | ") for line in ENFORCED.splitlines() if line.startswith("| ") and "::" in line]


def test_all_rows_are_read() -> None:
    assert len(ROWS) == sum(line.startswith("| ") for line in ENFORCED.splitlines()) - 1 > 25


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_what_shows_it_exists(row: list[str]) -> None:
    what, where, shown = row
    tests = re.findall(r"`(tests/[^`]+)::(test_\w+)`", shown)
    assert tests, what
    for path, name in tests:
        found = {
            item.name for item in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(item, ast.FunctionDef)
        }
        assert name in found, f"{path}::{name}"
    for place in re.findall(r"`([^`]+)`", where):
        assert (ROOT / "src" / "hanse" / place).exists() or (ROOT / "src" / "hanse" / f"{place}.py").exists(), place
