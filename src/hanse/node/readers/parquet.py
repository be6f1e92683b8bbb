"""Parquet files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hanse.errors import DataError
from hanse.node.readers import _columns
from hanse.table import Table

EXTENSIONS = (".parquet", ".pq")
KIND = "tabular"


def read(path: Path, *, schema: Mapping[str, str] | None = None, missing: Collection[str] = ()) -> Table:
    """The table in a Parquet file. Numbers, booleans, dates and text have their kinds from the file;
    text is categorical unless the schema says otherwise.

    Args:
        schema: column to kind; enforced. Columns that it does not name keep their own kind.
        missing: texts that mean "nothing there", besides null.

    Raises:
        DataError: not a Parquet file, two columns of one name, or values of another kind.
    """
    frame = _open(path, None)
    return _table(_guarded(path, frame.collect), schema, missing, path.name, 0)


def stream(
    path: Path, columns: Sequence[str] | None, rows_per_batch: int,
    *, schema: Mapping[str, str] | None = None, missing: Collection[str] = (),
) -> Iterator[Table]:  # fmt: skip
    """See :func:`hanse.node.readers.stream`."""
    frame = _open(path, columns)
    wanted = {n: k for n, k in (schema or {}).items() if columns is None or n in columns}
    batches = iter(frame.collect_batches(chunk_size=rows_per_batch, maintain_order=True))
    row = 0
    while (batch := _guarded(path, lambda: next(batches, None))) is not None:
        for part in batch.iter_slices(rows_per_batch):
            if part.height or not row:
                yield _table(part, wanted, missing, path.name, row)
                row += part.height
    if not row:
        yield _table(_guarded(path, frame.head(0).collect), wanted, missing, path.name, 0)


def _open(path: Path, columns: Sequence[str] | None) -> Any:
    import polars as pl

    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty (0 bytes); expected a Parquet file")
    frame = pl.scan_parquet(path, glob=False)
    names = _guarded(path, lambda: frame.collect_schema().names())
    clean = [str(n).strip() for n in names]
    for name, count in Counter(clean).items():
        if count > 1 or not name:
            raise DataError(f"{path.name}: {count} columns have the name {name!r}; each needs its own")
    frame = frame.rename({old: new for old, new in zip(names, clean, strict=True) if old != new})
    for name in columns or ():
        if name not in clean:
            raise DataError(f"{path.name}: there is no column {name!r}")
    return frame if columns is None else frame.select(list(columns))


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

    place = _columns.Place(file, where)
    return Table({n: _columns.from_typed(frame[n], declared.get(n), missing, place) for n in frame.columns})
