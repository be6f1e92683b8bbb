"""What is said of a target of labels, and how much of it is in memory meanwhile."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from hanse.table import Column, ColumnKind
from hanse.task import Task
from hanse.tasks import _labels, binary

ROWS = 400_000


def peak_of(work: Callable[[], object]) -> float:
    """Bytes a row that are taken meanwhile."""
    tracemalloc.start(1)
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / ROWS
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize("different", [2, 10**9])
def test_a_target_is_told_in_a_few_bytes_a_row(different: int, auto: bool) -> None:
    """Each value of a quantity was sorted and written out as text, 170 bytes a row."""
    column = Column.numeric(np.random.default_rng(0).integers(0, different, ROWS))
    assert 0 < peak_of(lambda: _labels.tell(column, 1, auto=auto)) < 20
    assert _labels.tell(column, 1, auto=auto)["many"] == (different > 2)


def test_classes_are_held_in_a_byte_a_row() -> None:
    column, task = Column.numeric(np.arange(ROWS) % 2), Task("binary", ("x",), ("0", "1"))
    assert 0 < peak_of(lambda: binary.TASK.target([column], task)) < 16  # with which rows they are, 8
    assert binary.TASK.target([column], task)[1].nbytes == ROWS


@pytest.mark.parametrize("at_a_time", [1, 3, 100])
def test_labels_are_the_same_however_many_rows_are_looked_at_at_a_time(
    at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = (
        Column.numeric([2, 0, float("nan"), 2, 7, float("inf"), 0, 2]),
        Column.categorical(["c", "a", None, "c", "d", None, "a", "c"]),
    )
    monkeypatch.setattr(_labels, "_ROWS", at_a_time)
    for column in columns:
        labels = ["a", "c", "d"] if column.kind is ColumnKind.CATEGORICAL else ["0", "2", "7"]
        assert _labels.tell(column, 1)["labels"] == labels
        assert _labels.tell(column, 2)["labels"] == labels[:2]
        assert _labels.codes(column, labels[1:]).tolist() == [0, -1, -1, 0, 1, -1, -1, 0]
