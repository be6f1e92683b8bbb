"""docs/conformance.md has every statement of the documents once, and every test that it names exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = {"M": 77, "F": 190, "A": 58, "B": 27, "S": 27}
# aggregation, selection, metrics and configuration, which are no part that is still to come
SHOWN = [*(f"M{n}" for n in range(1, 78)), *(f"F{n}" for n in (*range(63, 94), *range(103, 117), *range(130, 166)))]
NOTHING = "nothing yet"
PARTS = (
    "Learning that equals pooled learning",
    "Privacy that is proved",
    "Governance",
    "Pages",
    "Engines",
    "Network",
    "Scale",
)
LINES = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [A-Z]\d+ \|", line)
]


def test_every_row_is_there_once() -> None:
    assert [line[0] for line in LINES] == [f"{letter}{n}" for letter, last in ROWS.items() for n in range(1, last + 1)]
    assert all(len(line) == 4 and all(line) for line in LINES), [line[0] for line in LINES if len(line) != 4]


def test_every_statement_of_the_documents_is_counted() -> None:
    assert len(LINES) == sum(ROWS.values()) == 379


def test_what_is_there_has_a_test_and_what_is_not_says_so() -> None:
    """A row without a test says that nothing of it is there yet; a row with one says what Hanse does."""
    shown = {line[0]: "`tests/" in line[3] for line in LINES}
    assert [row for row in SHOWN if not shown[row]] == []
    for row, _, does, by in LINES:
        assert shown[row] or "later: " in by, row
        assert (does == NOTHING) <= (not shown[row]), row


@functools.cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(item.name for item in ast.walk(tree) if isinstance(item, ast.FunctionDef))


def test_what_shows_a_row_exists() -> None:
    """A test of that name, or a later part of that name; nothing else is said."""
    for row, _, _, by in LINES:
        shown = re.findall(r"`(tests/[^`]+)`", by)
        later = re.findall(r"later: ([A-Z][a-z ]+)", by)
        assert shown or later, row
        assert set(later) <= set(PARTS), row
        assert not re.sub(r"`tests/[^`]+`|later: [A-Z][a-z ]+|the Flower engine is|[,; ]", "", by), row
        for name in shown:
            path, _, test = name.partition("::")
            assert test.startswith("test_"), (row, name)
            assert test in names_in(path), (row, name)
