"""Parquet files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hanse.errors import DataError
from hanse.readers import _columns, _parquet_footer
from hanse.table import Column, ColumnKind, Table

EXTENSIONS = (".parquet", ".pq")
KIND = "tabular"
ROWS = 1 << 17  # that are checked at a time
SLICE_BYTES = 32 << 20  # of values in memory at a time
COLUMN_ROWS = 1 << 19  # of one column that are decoded at a time
FEWEST = 1 << 13  # rows of a slice: of a table of very many columns
Note = Callable[[int], None]  # bytes of the file that are done


def read(path: Path, *, schema: Mapping[str, str] | None = None, missing: Collection[str] = ()) -> Table:
    """The table in a Parquet file. Numbers, booleans, dates and text have their kinds from the file;
    text is categorical unless the schema says otherwise.

    Args:
        schema: column to kind; enforced. Columns that it does not name keep their own kind, or are open where they
            have no value.
        missing: texts that mean "nothing there", besides null; of numbers those that are numbers.

    Raises:
        DataError: not a Parquet file, two columns of one name, or values of another kind.
    """
    table = _table(_guarded(path, _open(path, None).collect), schema, missing, path.name, 0)
    return Table({n: c if n in (schema or {}) else c.undeclared() for n, c in table.columns.items()})


def stream(
    path: Path,
    columns: Sequence[str] | None,
    rows_per_batch: int,
    *,
    schema: Mapping[str, str] | None = None,
    missing: Collection[str] = (),
) -> Iterator[Table]:
    """See :func:`hanse.readers.stream`."""
    wanted = {n: k for n, k in (schema or {}).items() if columns is None or n in columns}
    row = 0
    for part in _slices(path, _open(path, columns), rows_per_batch):
        yield _table(part, wanted, missing, path.name, row)
        row += part.height
    if not row:
        yield _table(_guarded(path, _open(path, columns).head(0).collect), wanted, missing, path.name, 0)


def survey(
    path: Path,
    *,
    schema: Mapping[str, str] | None = None,
    missing: Collection[str] = (),
    note: Note = lambda done: None,
) -> tuple[dict[str, str], int]:
    """See :func:`hanse.readers.survey`. The file says the kinds; all of it is read, to know that it is whole, and
    the columns of other declared kinds are checked value by value. A column without any value is open, whatever its
    type: pandas writes a column of text without a value as one of numbers."""
    frame = _open(path, None)
    types = _guarded(path, frame.collect_schema)
    declared = _columns.kinds(schema, types, path.name)
    undeclared = [name for name in types if name not in declared]
    kinds = {n: str(declared.get(n) or _columns.own_kind(dtype, n, path.name)) for n, dtype in types.items()}
    if declared:
        _table(_guarded(path, frame.head(0).select(list(declared)).collect), schema, missing, path.name, 0)
    rows = 0
    size, whole = path.stat().st_size, _rows(path, frame)
    place, silent = _columns.CellPlace(path.name, str), undeclared
    for part in _slices(path, frame, ROWS):
        if declared:
            _table(part.select(list(declared)), schema, missing, path.name, rows)
        gone = _columns.without_values(_columns.chosen(part, silent), missing, place)
        silent = [name for name in silent if name in gone]
        rows += part.height
        note(size * rows // max(whole, 1))
    return kinds | dict.fromkeys(silent, ColumnKind.OPEN.value), rows


def typed(
    path: Path,
    columns: Sequence[str],
    rows_per_batch: int,
    schema: Mapping[str, str],
    *,
    missing: Collection[str] = (),
) -> Iterator[Table]:
    """Tables as :func:`stream` gives them; numbers are made floats where they are decoded."""
    any_rows = False
    for part in _slices(path, _floats(_open(path, columns), schema), rows_per_batch):
        yield _straight(part, columns, schema, missing, path)
        any_rows = True
        del part  # the slice that it is of goes before the next one is read
    if not any_rows:
        yield from stream(path, columns, rows_per_batch, schema=schema, missing=missing)


def by_columns(path: Path, schema: Mapping[str, str], *, missing: Collection[str] = ()) -> Callable[[str], Column]:
    """See :func:`hanse.readers.by_columns`. Of the file a column is read as its part of each row group."""
    import polars as pl

    frame = _open(path, None)
    whole = _rows(path, frame)
    numbers = set(_numbers(frame, schema))

    def read(name: str) -> Column:
        parts = _slices(path, frame.select(name), COLUMN_ROWS, COLUMN_ROWS, whole)
        if name not in numbers:
            own = [_straight(part, [name], schema, missing, path)[name] for part in parts]
            return Column.joined(own) if own else Column.absent(ColumnKind(schema[name]), 0)
        column, row = Column.absent(ColumnKind.NUMERIC, whole), 0
        for part in parts:
            floats = part[name] if part[name].dtype.is_float() else part[name].cast(pl.Float64)
            values = _columns.without_codes(floats.to_numpy(), missing)  # null is NaN there
            column.values[row : (row := row + len(floats))] = values
        return column

    return read


def _floats(frame: Any, schema: Mapping[str, str]) -> Any:
    """The same, with numbers made floats where they are decoded."""
    import polars as pl

    types = frame.collect_schema()
    others = [name for name in _numbers(frame, schema) if types[name] != pl.Float64]
    return frame.with_columns(pl.col(others).cast(pl.Float64)) if others else frame


def _numbers(frame: Any, schema: Mapping[str, str]) -> list[str]:
    kinds = frame.collect_schema().items()
    return [name for name, dtype in kinds if dtype.is_numeric() and schema.get(name) == ColumnKind.NUMERIC]


def _straight(
    part: Any, columns: Sequence[str], schema: Mapping[str, str], missing: Collection[str], path: Path
) -> Table:
    place, kinds = _columns.CellPlace(path.name, str), [ColumnKind(schema[n]) for n in columns]
    return Table(
        dict(zip(columns, _columns.straight(_columns.chosen(part, columns), kinds, missing, place), strict=True))
    )


def _slices(
    path: Path, frame: Any, rows_per_batch: int, most: int | None = None, whole: int | None = None
) -> Iterator[Any]:
    """The rows in order, a slice in memory at a time: left to itself, the streaming engine reads the further ahead the
    larger the file is. What is read of the file for a slice is the columns' part of a row group."""
    whole = _rows(path, frame) if whole is None else whole
    width = max(len(frame.collect_schema()), 1)
    size = max(SLICE_BYTES // (8 * width), FEWEST) if most is None else most
    size = math.ceil(whole / math.ceil(whole / size)) if whole else 1  # slices alike: as many, none as large as may be
    for start in range(0, whole, size):
        part = _guarded(path, frame.slice(start, size).collect)
        if part.height != min(size, whole - start):
            raise DataError(f"{path.name}: has fewer rows than it says; is the file complete?")
        yield from part.iter_slices(rows_per_batch)
        del part  # before the next one is made


def _rows(path: Path, frame: Any) -> int:
    import polars as pl

    return int(_guarded(path, frame.select(pl.len()).collect).item())


def _open(path: Path, columns: Sequence[str] | None) -> Any:
    import polars as pl

    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty (0 bytes); expected a Parquet file")
    _parquet_footer.check(path)
    frame = pl.scan_parquet(path, glob=False)
    names = _guarded(path, lambda: frame.collect_schema().names())
    clean = [str(n).strip() for n in names]
    counted = Counter(clean)
    for name, count in counted.items():
        if count > 1 or not name:
            raise DataError(f"{path.name}: {count} columns have the name {name!r}; each needs its own")
    if clean != names:
        frame = frame.rename({old: new for old, new in zip(names, clean, strict=True) if old != new})
    for name in columns or ():
        if name not in counted:
            raise DataError(f"{path.name}: there is no column {name!r}")
    return frame if columns is None or list(columns) == clean else frame.select(list(columns))


def _guarded(path: Path, call: Any) -> Any:
    """Polars' own messages hold the whole path, so they are not passed on."""
    import polars as pl

    try:
        return call()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:  # a panic: hostile bytes
        raise DataError(
            f"{path.name}: cannot be read as Parquet ({type(error).__name__}); is the file complete?"
        ) from None


def _table(frame: Any, schema: Mapping[str, str] | None, missing: Collection[str], file: str, row: int) -> Table:
    declared = _columns.kinds(schema, frame.columns, file)

    def where(index: int) -> str:
        return f"row {row + index + 1}"

    place = _columns.CellPlace(file, where)
    return Table({n: _columns.from_typed(frame[n], declared.get(n), missing, place) for n in frame.columns})
