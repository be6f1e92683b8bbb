"""What others may see in place of a dataset: a file of the owner's, or a table made of its schema alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse import readers
from hanse.errors import ConfigError, DataError
from hanse.node.dataset import Dataset
from hanse.table import Column, ColumnKind, Table


def make_mock(
    table: Table,
    rows: int,
    rng: np.random.Generator,
    public_categories: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """A table with the columns and kinds of ``table`` whose values have nothing to do with it:
    standard normal numbers, fair coins, days of 2000 to 2020, noise for images, and as labels those
    that the owner declared public, else ``category_1`` to ``category_3``.

    >>> t = Table({"age": Column.numeric([61.0]), "name": Column.categorical(["Grete"])})
    >>> make_mock(t, 20, np.random.default_rng(0))["name"].categories
    ('category_1', 'category_2', 'category_3')
    """
    if rows < 0:
        raise ConfigError(f"rows is {rows}; expected 0 or more")
    columns: dict[str, Column] = {}
    for name, column in table.columns.items():
        kind = column.kind
        if kind is ColumnKind.CATEGORICAL:
            public = (public_categories or {}).get(name, ())
            labels = tuple(sorted(set(public))) or ("category_1", "category_2", "category_3")
            columns[name] = Column(kind, rng.integers(0, len(labels), rows).astype(np.int32), labels)
        elif kind is ColumnKind.IMAGE:
            shape = (rows, *column.values.shape[1:])
            columns[name] = Column(kind, rng.integers(0, 256, shape, dtype=np.uint8))
        elif kind is ColumnKind.BOOLEAN:
            columns[name] = Column(kind, rng.integers(0, 2, rows).astype(np.float64))
        elif kind is ColumnKind.DATE:
            columns[name] = Column(kind, rng.integers(10957, 18262, rows).astype(np.float64))
        else:
            columns[name] = Column(kind, rng.standard_normal(rows))
    return Table(columns)


def read_mock(dataset: Dataset) -> Table:
    """The owner's mock file. Raises ``DataError`` if its columns are not the dataset's."""
    assert dataset.mock is not None
    options = dataset.options if dataset.kind == readers.reader_for(dataset.mock).KIND else {}
    if dataset.kind == "tabular" and dataset.mock.suffix.lower() != dataset.path.suffix.lower():
        options = {}
    table = readers.read(dataset.mock, schema=dataset.schema, **options)
    if extra := sorted(set(table.names) - set(dataset.schema)):
        raise DataError(f"the mock {dataset.mock.name} has a column {extra[0]!r} that the dataset has not")
    return table.select(list(dataset.schema))


def empty(dataset: Dataset) -> Table:
    """A table of the dataset's columns without any row."""

    def column(kind: ColumnKind) -> Column:
        if kind is ColumnKind.IMAGE:
            return Column(kind, np.empty((0, *dataset.image_shape), np.uint8))
        return Column(kind, np.empty(0, np.int32 if kind is ColumnKind.CATEGORICAL else np.float64))

    return Table({name: column(ColumnKind(kind)) for name, kind in dataset.schema.items()})
