"""A dataset's rows in batches: what statistics read, so that a file larger than memory works.

A registered file was read in full and strictly once, and its hash binds it; so here it is read by the
fastest way that gives the same values. Where that way does not understand a cell (a number with
spaces around it), the strict reader takes over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hanse.errors import DataError
from hanse.messages import Json
from hanse.node import readers
from hanse.table import Column, ColumnKind, Table

if TYPE_CHECKING:
    import polars as pl

ROWS = 1 << 17  # of a batch: a column of it is 1 MiB
SLICE_BYTES = 64 << 20  # of a Parquet file in memory at a time
SHOWN = "shown.json"


class Shown(MutableMapping[str, Json]):
    """What queries have been shown of one version of a dataset, in a file of the node's folder. What is
    set is on disk before the next line runs, so a killed node forgets nothing."""

    def __init__(self, home: Path, version: str) -> None:
        self._home, self._file, self._version = home, home / SHOWN, version

    def _all(self) -> dict[str, dict[str, Json]]:
        try:
            found = json.loads(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
            raise DataError(f"{SHOWN} is damaged; the node's owner restores it from a backup")  # never: forget it
        return found

    def __getitem__(self, key: str) -> Json:
        return self._all().get(self._version, {})[key]

    def __setitem__(self, key: str, value: Json) -> None:
        with open(self._home / f"{SHOWN}.lock", "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            whole = self._all()
            whole.setdefault(self._version, {})[key] = value
            handle, draft = tempfile.mkstemp(dir=self._home, prefix=f".{SHOWN}-")
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    json.dump(whole, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(draft, self._file)
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise

    def __delitem__(self, key: str) -> None:
        raise DataError("what was shown cannot be taken back")

    def __iter__(self) -> Iterator[str]:
        return iter(self._all().get(self._version, {}))

    def __len__(self) -> int:
        return len(self._all().get(self._version, {}))


class FileSource:
    """The rows of a registered file.

    Args:
        path, schema, rows, options: as registered.
        memory: see :class:`Shown`.
        unchanged: raises unless the file is still the registered one; called after each pass.
    """

    def __init__(
        self, path: Path, schema: Mapping[str, str], rows: int, options: Mapping[str, Any],
        memory: MutableMapping[str, Json], unchanged: Any,
    ) -> None:  # fmt: skip
        self._path, self._kinds, self._options, self._unchanged = path, dict(schema), dict(options), unchanged
        self._names = {" ".join(name.split()): name for name in schema}
        self.schema: Mapping[str, str] = {clean: schema[name] for clean, name in self._names.items()}
        self.rows, self.memory = rows, memory

    def batches(self, columns: Sequence[str]) -> Iterator[Table]:
        names = [self._names[c] for c in columns] or list(self._kinds)[:1]
        seen = 0
        for batch in self._read(names):
            seen += batch.rows
            yield Table({" ".join(n.split()): c for n, c in batch.columns.items()})
        self._unchanged()
        if seen != self.rows:
            raise DataError("the dataset gives another number of rows than it was registered with; refresh it")

    def _read(self, names: list[str]) -> Iterator[Table]:
        module = readers.reader_for(self._path)
        frame = _typed(self._path, module.__name__.rsplit(".", 1)[1], self._kinds, names, self._options)
        if frame is None:
            yield from readers.stream(self._path, names, ROWS, schema=self._kinds, **self._options)
            return
        done = 0
        try:
            for part in _parts(frame, self._path.suffix.lower() in (".parquet", ".pq"), self.rows, len(names)):
                table = Table({n: _column(part[n], ColumnKind(self._kinds[n]), self._path.name) for n in names})
                done += table.rows
                yield table
        except _polars_errors() as error:
            if done:
                raise DataError(f"{self._path.name}: cannot be read ({type(error).__name__})") from None
            yield from readers.stream(self._path, names, ROWS, schema=self._kinds, **self._options)
            return
        if not done:
            yield from readers.stream(self._path, names, ROWS, schema=self._kinds, **self._options)


def _parts(frame: pl.LazyFrame, typed: bool, rows: int, columns: int) -> Iterator[pl.DataFrame]:
    """The frame in order. A Parquet file is read slice by slice: left to itself, the streaming engine
    reads the further ahead the larger the file is. A slice of a CSV file would be read from the start."""
    if not typed:
        yield from frame.collect_batches(chunk_size=ROWS, maintain_order=True)
        return
    size = max(ROWS, SLICE_BYTES // (8 * max(columns, 1)))
    for start in range(0, rows, size):
        yield from frame.slice(start, size).collect().iter_slices(ROWS)
    if frame.slice(rows, 1).collect().height:
        raise DataError("the dataset gives more rows than it was registered with; refresh it")


def _polars_errors() -> tuple[type[BaseException], ...]:
    import polars as pl

    return (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def _typed(
    path: Path, reader: str, kinds: Mapping[str, str], names: Sequence[str], options: Mapping[str, Any]
) -> pl.LazyFrame | None:
    """A lazy frame whose columns have the registered kinds; None where only the strict reader will do."""
    import polars as pl

    numeric = [n for n in names if kinds[n] == ColumnKind.NUMERIC]
    with contextlib.suppress(*_polars_errors()):
        if reader == "parquet":
            frame = pl.scan_parquet(path, glob=False)
            have = frame.collect_schema()
            if not all(n in have for n in names) or any(not have[n].is_numeric() for n in numeric) or options:
                return None
            return frame.select(pl.col(n).cast(pl.Float64) if n in numeric else pl.col(n) for n in names)
        if reader == "csv" and not options and len(names) == len(numeric) and path.suffix.lower() in (".csv", ".tsv"):
            from hanse.node.readers._columns import MISSING

            types = {n: pl.Float64 if n in numeric else pl.String for n in kinds}
            frame = pl.scan_csv(path, glob=False, separator="\t" if path.suffix.lower() == ".tsv" else ",",
                                schema=types, null_values=list(MISSING))  # fmt: skip
            return frame.select(list(names))
    return None


def _column(series: pl.Series, kind: ColumnKind, file: str) -> Column:
    from hanse.node.readers import _columns

    if kind is ColumnKind.NUMERIC:
        values = series.fill_null(float("nan")) if series.null_count() else series
        return Column(kind, np.asarray(values.to_numpy()))
    return _columns.from_typed(series, kind, (), _columns.Place(file, str))
