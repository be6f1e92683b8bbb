"""Whose a row is. Where one person has many rows, what protects people must count persons and not rows.

An owner says at registration which column names the person (``hanse node dataset add --subject patient``). With m the
most rows that one person has there, and n_p those of person p:

- **Minimum counts** are taken m times: a cell of k m rows is of at least k persons, whoever they are. It is more than
  is needed where most have fewer rows than the one who has the most.
- **Noise** hides persons at the size that hides a row: each row counts 1/n_p, so all of one person add up to a mean of
  what single rows may add, Σ_{i of p} v_i / n_p, which is no longer than the longest of them. Counts are of persons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from hanse.errors import DataError
from hanse.messages import Array, Json
from hanse.table import Column, ColumnKind, Table

MINIMUMS = ("minimum_cell", "minimum_count")  # the owner's settings that are numbers of rows
Tally = Mapping[str | float, int]  # how many rows each person has


def tally(batches: Iterable[Column]) -> dict[str | float, int]:
    """How many rows each person has.

    Raises:
        DataError: a row has no person, or the column is one of images.

    >>> tally([Column.categorical(["ann", "bob"]), Column.categorical(["ann"])])
    {'ann': 2, 'bob': 1}
    """
    found: dict[str | float, int] = {}
    for column in batches:
        names, _, counts = _named(column)
        for name, count in zip(names, counts.tolist(), strict=True):
            found[name] = found.get(name, 0) + count
    return found


def shares(column: Column, of: Tally) -> Array:
    """(n,) 1/n_p of each row: those of one person add up to 1 over all batches that were tallied.

    >>> shares(Column.categorical(["ann", "bob"]), {"ann": 2, "bob": 1}).tolist()
    [0.5, 1.0]
    """
    names, places, _ = _named(column)
    return np.array([1.0 / of[name] for name in names])[places] if names else np.zeros(0)


def of_batches(batches: Callable[[], Iterable[Table]], subject: str) -> Array:
    """(n,) :func:`shares` of all rows, in two passes over them."""
    of = tally(batch[subject] for batch in batches())
    return np.concatenate([np.zeros(0), *(shares(batch[subject], of) for batch in batches())])


def stricter(owner: Mapping[str, Json], most: int) -> dict[str, Json]:
    """The owner's settings with minimum counts of so many rows that they are of as many persons.

    Args:
        most: m.

    >>> stricter({"minimum_cell": 10, "allow_extremes": False}, 3)
    {'minimum_cell': 30, 'allow_extremes': False}
    """
    return {name: int(value) * most if name in MINIMUMS else value for name, value in owner.items()}


def _named(column: Column) -> tuple[list[str | float], Array, Array]:
    """The persons of a batch, which of them each row is of, and how many rows each has."""
    if column.kind is ColumnKind.IMAGE:
        raise DataError("images name no person; the subject column holds a number or a text for each")
    labelled = column.kind is ColumnKind.CATEGORICAL
    lacking = column.values < 0 if labelled else ~np.isfinite(column.values)
    if lacking.any():
        raise DataError(f"{int(lacking.sum())} rows have no value in the subject column; each row must be somebody's")
    found, places, counts = np.unique(column.values, return_inverse=True, return_counts=True)
    names: list[str | float] = [column.categories[k] if labelled else float(k) for k in found]
    return names, places, counts
