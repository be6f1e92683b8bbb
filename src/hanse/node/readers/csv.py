"""CSV and TSV files: UTF-8, one header line, RFC 4180 quotes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hanse.errors import ConfigError, DataError
from hanse.node.readers import _columns, _records
from hanse.table import ColumnKind, Table

if TYPE_CHECKING:
    import polars as pl

EXTENSIONS = (".csv", ".tsv", ".tab", ".txt")
KIND = "tabular"
CHUNK = 8 << 20  # bytes that a stream reads at a time
LONGEST = 64 << 20  # bytes of one record; beyond it, a quote was surely never closed
BOM = b"\xef\xbb\xbf"


def read(
    path: Path, *, schema: Mapping[str, str] | None = None, separator: str | None = None,
    missing: Collection[str] = _columns.MISSING,
) -> Table:  # fmt: skip
    """The table in a CSV or TSV file.

    Args:
        schema: column to kind; enforced. The kinds of other columns are found: numeric, boolean
            (true, false, yes, no), date (ISO), else categorical; nothing but missing is numeric.
        separator: by default a tab for ``.tsv`` and ``.tab``, a tab for ``.txt`` with one in its
            header, else a comma.
        missing: texts that mean "nothing there".

    Raises:
        DataError: names row, line and column of what is wrong, and what kind of value is there.
    """
    cells, place = read_text(path, separator)
    declared = _columns.kinds(schema, [series.name for series in cells], path.name)
    columns = {}
    for series in cells:
        kind = declared.get(series.name)
        if kind is None:
            kind = _columns.decide(series.name, _columns.look(series, missing), place)
        columns[series.name] = _columns.from_text(series, kind, missing, place)
    return Table(columns)


def read_text(path: Path, separator: str | None = None, unique: bool = True) -> tuple[list[pl.Series], _columns.Place]:
    """All cells as text, by column, and what messages need. Unless ``unique``, two columns may have
    one name."""
    data = path.read_bytes()
    _records.check_text(data, path.name)
    data = data.removeprefix(BOM)
    names, mark, body = _header(data, path, separator, unique)
    line = data.count(b"\n", 0, body) + 1
    frame, records = _parse(data[body:], len(names), mark, path.name, line=line)
    cells = [series.alias(name) for name, series in zip(names, frame, strict=True)]
    return cells, _columns.Place(path.name, records.where)


def stream(
    path: Path, columns: Sequence[str] | None, rows_per_batch: int,
    *, schema: Mapping[str, str] | None = None, separator: str | None = None,
    missing: Collection[str] = _columns.MISSING,
) -> Iterator[Table]:  # fmt: skip
    """See :func:`hanse.node.readers.stream`. Columns that the schema does not name cost one more pass
    over the file, to find their kinds."""
    names, chunks = _chunks(path, separator)
    wanted = list(names if columns is None else columns)
    for name in wanted:
        if name not in names:
            raise DataError(f"{path.name}: there is no column {name!r}")
    declared = _columns.kinds(schema, names, path.name)
    unknown = [name for name in wanted if name not in declared]
    if unknown:
        declared |= _look(path, unknown, separator, missing)
    row = None
    for frame, records in chunks:
        for first in range(0, frame.height, rows_per_batch):
            row = records.row + first
            place = _columns.Place(path.name, lambda i, r=records, at=first: r.where(at + i))  # type: ignore[misc]
            yield _batch(frame.slice(first, rows_per_batch), wanted, declared, missing, place)
    if row is None:
        import polars as pl

        nothing = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
        yield _batch(nothing, wanted, declared, missing, _columns.Place(path.name, str))


def _batch(
    frame: pl.DataFrame, wanted: Sequence[str], declared: Mapping[str, ColumnKind], missing: Collection[str],
    place: _columns.Place,
) -> Table:  # fmt: skip
    return Table({n: _columns.from_text(frame[n], declared[n], missing, place) for n in wanted})


def _look(path: Path, unknown: Sequence[str], separator: str | None, missing: Collection[str]) -> dict[str, ColumnKind]:
    seen = dict.fromkeys(unknown, _columns.Seen())
    lines: dict[int, str] = {}  # where the first odd value of a column stands
    _, chunks = _chunks(path, separator)
    for frame, records in chunks:
        for name in unknown:
            now = _columns.look(frame[name], missing, records.row)
            if seen[name].other is None and now.other is not None:
                lines[now.other[0]] = records.where(now.other[0] - records.row)
            seen[name] += now
    place = _columns.Place(path.name, lines.__getitem__)
    return {name: _columns.decide(name, seen[name], place) for name in unknown}


def _chunks(path: Path, separator: str | None) -> tuple[list[str], Iterator[tuple[pl.DataFrame, _records.Records]]]:
    """Column names, and the file's rows in pieces of about ``CHUNK`` bytes, cut between records."""
    head = b""
    with path.open("rb") as file:
        while (end := _records.first_record(head)) is None and (more := file.read(1 << 16)):
            head += more
            _not_endless(head, path, 1)
    _records.check_text(head[: len(head) if end is None else end + 1], path.name)
    bom = len(BOM) if head.startswith(BOM) else 0
    names, mark, body = _header(head[bom:], path, separator)

    def pieces() -> Iterator[tuple[pl.DataFrame, _records.Records]]:
        line, row, offset = head.count(b"\n", 0, bom + body) + 1, 0, bom + body
        rest = b""
        with path.open("rb") as file:
            file.seek(offset)
            while True:
                more = file.read(CHUNK)
                data = rest + more
                _not_endless(rest, path, line)
                cut = _records.last_record(data) if more else len(data)
                data, rest = data[:cut], data[cut:]
                # A blank line at the very end is no row; elsewhere it is one (or an error), so the
                # line ends that close a piece wait for what follows.
                if more and data:
                    kept = len(data.rstrip(b"\r\n"))
                    data, rest = data[:kept], data[kept:] + rest
                    if data and (more_end := rest.find(b"\n")) >= 0:
                        data, rest = data + rest[: more_end + 1], rest[more_end + 1 :]
                if data:
                    _records.check_text(data, path.name, line, offset)
                    frame, records = _parse(data, len(names), mark, path.name, line=line, row=row, final=not more)
                    frame.columns = names
                    yield frame, records
                    line, row, offset = line + data.count(b"\n"), row + frame.height, offset + len(data)
                if not more:
                    return

    return names, pieces()


def _not_endless(data: bytes, path: Path, line: int) -> None:
    if len(data) > LONGEST:
        raise DataError(
            f"{path.name}: the record that begins on line {line} is longer than {LONGEST >> 20} MiB; "
            "is a quote not closed?"
        )


def _header(data: bytes, path: Path, separator: str | None, unique: bool = True) -> tuple[list[str], str, int]:
    """Column names, the separator, and where the rows begin."""
    if not data.strip():
        raise DataError(f"{path.name} is empty; expected a header line with the column names")
    end = _records.first_record(data)
    if end is None and data.count(b'"') % 2:
        raise DataError(f"{path.name}: line 1: a quote opens a field and is never closed")
    text = data[: len(data) if end is None else end].decode().rstrip("\r")
    if "\r" in text.replace("\r\n", "\n"):
        raise DataError(f"{path.name}: lines end with a carriage return alone; save it with line feeds")
    if separator is None:
        tab = path.suffix.lower() in (".tsv", ".tab") or (path.suffix.lower() == ".txt" and "\t" in text)
        separator = "\t" if tab else ","
    if len(separator) != 1 or not separator.isascii() or separator in '"\r\n':
        raise ConfigError(f"separator {separator!r}; expected one character such as ',' or a tab")
    return (
        _records.header(text, separator, path.name, unique),
        separator,
        len(data) if end is None else end + 1,
    )


def _parse(
    data: bytes, width: int, mark: str, file: str, *, line: int, row: int = 0, final: bool = True
) -> tuple[pl.DataFrame, _records.Records]:
    """Rows (without a header) as text; the columns are called by their number."""
    import polars as pl

    if final and width > 1:  # with one column an empty line is a missing value
        data = data.rstrip(b"\r\n")
    records = _records.find(data, width, mark, file, line=line, row=row)
    cells = dict.fromkeys(map(str, range(width)), pl.String)
    if not len(records):
        return pl.DataFrame(schema=cells), records
    try:
        frame = pl.read_csv(data, has_header=False, separator=mark, schema=cells)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{file}: cannot be read as CSV ({type(error).__name__})") from None
    if frame.height != len(records):
        raise DataError(f"{file}: {len(records)} rows were found but {frame.height} could be read")
    return frame, records
