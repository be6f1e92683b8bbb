"""A table as the algorithms see it: named columns of one length, with what is missing marked.

It is deliberately small: loaders make it (CSV, Parquet, images), feature alignment selects its
columns, preparation turns it into a design matrix.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np

from hanse.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]


class ColumnKind(StrEnum):
    """``numeric``: float64, NaN is missing. ``boolean``: float64 of 0, 1, NaN. ``categorical``:
    int32 codes into ``categories``, -1 is missing. ``date``: float64 days since 1970-01-01, NaN is
    missing. ``image``: uint8 of (n, height, width, channels), nothing missing. ``open``: float64, all NaN: no value
    says of what kind the column is, so it is of whatever kind it has at the other sites."""

    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    CATEGORICAL = "categorical"
    DATE = "date"
    IMAGE = "image"
    OPEN = "open"


def canonical_name(name: str) -> str:
    """The name of a column as names are compared: without outer spaces, and with one where there are several.

    >>> canonical_name(" blood  pressure")
    'blood pressure'
    """
    return " ".join(name.split())


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its kind, its values (see :class:`ColumnKind`) and its categories, sorted."""

    kind: ColumnKind
    values: Array
    categories: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def missing(self) -> Array:
        """(n,) bool."""
        if self.kind is ColumnKind.CATEGORICAL:
            return np.asarray(self.values < 0)
        if self.kind is ColumnKind.IMAGE:
            return np.zeros(len(self.values), bool)
        return np.isnan(self.values)

    @property
    def given(self) -> Array:
        """(n,) whether each row has a value that can be used; infinite numbers count as missing."""
        return ~self.missing if self.kind is ColumnKind.CATEGORICAL else np.isfinite(self.values)

    def take(self, rows: Array) -> Column:
        """These rows, by index or by a mask, in their order."""
        return Column(self.kind, self.values[rows], self.categories)

    @staticmethod
    def joined(parts: Sequence[Column]) -> Column:
        """The values of all parts, which are of one kind, one part after the other.

        >>> Column.joined([Column.categorical(["b", None]), Column.categorical(["a", "b"])]).labels()
        ['b', None, 'a', 'b']
        """
        if len(parts) == 1:
            return parts[0]
        categories = tuple(sorted(set().union(*(part.categories for part in parts))))
        values = [part.values for part in parts]
        if categories:
            place = {c: i for i, c in enumerate(categories)}
            known = (np.array([*(place[c] for c in part.categories), -1], np.int32) for part in parts)
            values = [own[part.values] for own, part in zip(known, parts, strict=True)]
        return Column(parts[0].kind, np.concatenate(values), categories)

    @staticmethod
    def absent(kind: ColumnKind, rows: int) -> Column:
        """A column of ``rows`` missing values. Raises ``DataError`` for images, of which none can be missing.

        >>> Column.absent(ColumnKind.CATEGORICAL, 2).values.tolist()
        [-1, -1]
        """
        if kind is ColumnKind.CATEGORICAL:
            return Column(kind, np.full(rows, -1, np.int32))
        if kind is ColumnKind.IMAGE:
            raise DataError("an image cannot be missing")
        return Column(kind, np.full(rows, np.nan))

    def undeclared(self) -> Column:
        """The column, of open kind if it has no value that tells which.

        >>> Column.categorical([None, None]).undeclared().kind
        <ColumnKind.OPEN: 'open'>
        """
        if self.kind in (ColumnKind.IMAGE, ColumnKind.OPEN) or not self.missing.all():
            return self
        return Column.absent(ColumnKind.OPEN, len(self))

    @staticmethod
    def numeric(values: Iterable[float] | Array) -> Column:
        """Of numbers, as float64; NaN: missing."""
        array = values if isinstance(values, np.ndarray) else np.array(list(values))
        return Column(ColumnKind.NUMERIC, np.asarray(array, np.float64))

    @staticmethod
    def categorical(values: Iterable[str | None]) -> Column:
        """Of labels; None: missing. Categories are sorted."""
        listed = list(values)
        categories = tuple(sorted({v for v in listed if v is not None}))
        index = {c: i for i, c in enumerate(categories)}
        codes = np.array([-1 if v is None else index[v] for v in listed], np.int32)
        return Column(ColumnKind.CATEGORICAL, codes, categories)

    def labels(self) -> list[str | None]:
        """Each value as text (class labels): whole numbers without a decimal point, None where
        missing."""
        if self.kind is ColumnKind.CATEGORICAL:
            return [None if c < 0 else self.categories[c] for c in self.values]
        return [None if np.isnan(v) else _text(float(v)) for v in self.values]


_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def label_values(labels: Sequence[str]) -> Array:
    """Labels (:meth:`Column.labels`) back to values: numbers if all of them are distinct numbers,
    whole ones as integers; else text.

    >>> label_values(["0", "10"]), label_values(["no", "1"]).tolist()
    (array([ 0, 10]), ['no', '1'])
    """
    if labels and all(_NUMBER.fullmatch(label) for label in labels):
        values = [float(label) for label in labels]
        if len(set(values)) == len(labels) and all(abs(v) < 2**53 for v in values):
            return np.array([int(v) for v in values] if all(v.is_integer() for v in values) else values)
    return np.array(list(labels))


def _text(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


@dataclass(frozen=True, slots=True)
class ReadColumns(Mapping[str, Column]):
    """Columns that are made whenever they are asked for, and not kept: of a file that is larger than what memory there
    is for it.

    Args:
        rows: of each.
        read: makes the column of a name.
    """

    rows: int
    names: tuple[str, ...]
    read: Callable[[str], Column]

    def __getitem__(self, name: str) -> Column:
        if name not in self.names:
            raise KeyError(name)
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:  # a Mapping's own would read it
        return name in self.names


@dataclass(frozen=True, slots=True)
class Table:
    """Named columns of one length.

    >>> t = Table({"age": Column.numeric([61, None or float("nan")]), "sex": Column.categorical(["f", "m"])})
    >>> t.rows, t.names
    (2, ('age', 'sex'))
    """

    columns: Mapping[str, Column] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.columns, ReadColumns):
            return
        if len({len(c.values) for c in self.columns.values()}) > 1:
            lengths = {name: len(c) for name, c in self.columns.items()}
            raise DataError(f"columns of unequal length: {lengths}")

    @property
    def rows(self) -> int:
        """How many rows there are; 0 without columns."""
        if isinstance(self.columns, ReadColumns):
            return self.columns.rows
        return next((len(c) for c in self.columns.values()), 0)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in their order."""
        return tuple(self.columns)

    @property
    def in_memory(self) -> bool:
        """Whether its columns are here, and not read when they are asked for."""
        return not isinstance(self.columns, ReadColumns)

    def of_columns(self, names: Sequence[str], made: Callable[[str], Column]) -> Table:
        """A table of as many rows whose columns are ``made`` of those of this one: now, or if these are read when they
        are asked for, then."""
        if isinstance(self.columns, ReadColumns):
            return Table(ReadColumns(self.rows, tuple(names), made))
        return Table({name: made(name) for name in names})

    def __getitem__(self, name: str) -> Column:
        try:
            return self.columns[name]
        except KeyError:
            raise DataError(f"there is no column {name!r}; there are {', '.join(self.names)}") from None

    def select(self, names: Sequence[str]) -> Table:
        """These columns, in this order. Raises ``DataError`` for one that is not there."""
        return Table({name: self[name] for name in names})

    def take(self, rows: Array) -> Table:
        """These rows, by index or by a mask, in their order."""
        return Table({name: column.take(rows) for name, column in self.columns.items()})

    def drop(self, names: Iterable[str]) -> Table:
        """Without these columns; names that are not there are passed over."""
        gone = set(names)
        return Table({n: c for n, c in self.columns.items() if n not in gone})

    def schema(self) -> dict[str, str]:
        """Column name to kind."""
        return {name: str(column.kind) for name, column in self.columns.items()}

    @staticmethod
    def of(data: Any) -> Table:
        """From a mapping of sequences, a pandas or Polars frame, or a Table. Text becomes categorical, numbers
        (decimals too) numeric, bool boolean, dates and date-times (in UTC) dates, durations numbers of days, whether
        they are Python's or NumPy's; what a NumPy array masks is missing. As in a CSV file, text loses outer blanks,
        and blank text is missing. A column without any value is of open kind, unless it comes as a :class:`Column`."""
        if isinstance(data, Table):
            return data
        if hasattr(data, "collect") and hasattr(data, "lazy"):
            raise DataError(
                "rows came as a LazyFrame, which is a plan and not a table; give what its collect() returns"
            )
        frame = hasattr(data, "columns")
        names = [str(name) for name in (data.columns if frame else data if isinstance(data, Mapping) else ())]
        if len(set(names)) < len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise DataError(f"two columns are named {twice!r}; rename one of them, or leave it out")
        if frame:
            data = {str(name): data[name] for name in data.columns}
        if not isinstance(data, Mapping):
            raise DataError(
                f"rows came as {type(data).__name__}; expected a pandas or Polars frame, or a mapping of column names "
                "to lists with one value per row (pandas.DataFrame(...) makes a frame of records and of arrays)"
            )
        made = ((str(name), values) for name, values in data.items())
        return Table({n: v if isinstance(v, Column) else _column(n, v).undeclared() for n, v in made})


def _column(name: str, values: Any) -> Column:
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DataError(f"column {name!r} is {values!r}; expected a list with one value per row: [{values!r}]")
    array = values if isinstance(values, np.ndarray) else np.array(list(values), dtype=object)
    if isinstance(array, np.ma.MaskedArray) and array.ndim == 1:
        array = _unmasked(array)
    if array.ndim == 4 and array.dtype == np.uint8:
        return Column(ColumnKind.IMAGE, array)
    if array.ndim != 1:
        raise DataError(f"column {name!r} has shape {array.shape}; expected one value per row")
    if array.dtype.kind in "iuf":
        return Column.numeric(array)
    if array.dtype.kind == "b":
        return Column(ColumnKind.BOOLEAN, array.astype(np.float64))
    if array.dtype.kind == "M":
        days = array.astype("datetime64[us]").astype(np.float64) / 86_400_000_000
        return Column(ColumnKind.DATE, np.where(np.isnat(array), np.nan, days))
    if array.dtype.kind == "m":  # whatever its unit, which differs from one pandas to the next
        return Column.numeric(array / np.timedelta64(1, "D"))
    if array.dtype.kind == "c":
        raise DataError(f"column {name!r} holds complex numbers; give their parts or their size as columns of numbers")
    listed = [None if _absent(v) else v for v in map(_plain, array.tolist())]
    present = [v for v in listed if v is not None]
    if present and all(isinstance(v, bool) for v in present):
        return Column(ColumnKind.BOOLEAN, np.array([np.nan if v is None else float(v) for v in listed]))
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in present):
        try:
            return Column.numeric([float("nan") if v is None else v for v in listed])
        except OverflowError:
            raise DataError(f"column {name!r} holds a whole number beyond 1e308, which is no 64-bit number") from None
    if present and all(isinstance(v, timedelta) for v in present):
        return Column.numeric([float("nan") if v is None else v / timedelta(days=1) for v in listed])
    odd = next((v for v in present if isinstance(v, (bytes, list, tuple, dict, set, np.ndarray))), None)
    if odd is not None:
        raise DataError(
            f"column {name!r} holds {type(odd).__name__} values, which have no kind here; expected numbers, booleans, "
            "text or dates" + (": decode the bytes to text" if isinstance(odd, bytes) else "")
        )
    if all(isinstance(v, date) for v in present):
        return Column(ColumnKind.DATE, np.array([np.nan if v is None else _days(v) for v in listed]))
    return Column.categorical([None if v is None else str(v).strip() or None for v in listed])


def _days(value: date) -> float:
    """Days since 1970-01-01; a time zone is converted to UTC."""
    if not isinstance(value, datetime):
        return float((value - date(1970, 1, 1)).days)
    there = value if value.tzinfo else value.replace(tzinfo=UTC)
    return float((there - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(days=1))


def _unmasked(array: Any) -> Array:
    """A masked array with what stands for a missing value where it is masked."""
    found: Array
    if array.dtype.kind in "mM":
        found = array.filled(np.array("NaT", array.dtype))
    elif array.dtype.kind in "iuf":
        found = array.astype(np.float64).filled(np.nan)
    else:
        found = array.data.astype(object)
        found[np.ma.getmaskarray(array)] = None
    return found


def _plain(value: Any) -> Any:
    """Python's own value of a number, truth or time of NumPy's, of which a list may be made, and of a decimal."""
    if type(value).__name__ == "Decimal":  # without its module, which a node need not have in memory
        return float(value)
    if not isinstance(value, np.generic):
        return value
    return (value.astype(f"{value.dtype.kind}8[us]") if value.dtype.kind in "mM" else value).item()


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value) or str(value) in ("<NA>", "NaT")
