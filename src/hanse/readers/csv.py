"""CSV and TSV files: UTF-8, one header line, RFC 4180 quotes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hanse.errors import ConfigError, DataError
from hanse.readers import _columns, _records
from hanse.table import ColumnKind, Table

if TYPE_CHECKING:
    import polars as pl

EXTENSIONS = (".csv", ".tsv", ".tab", ".txt")
KIND = "tabular"
CHUNK = 4 << 20  # bytes that a stream reads at a time
WIDE, MOST = 4096, 16  # columns for which it reads one chunk more, up to so many: each piece takes its time a column
LONGEST = 64 << 20  # bytes of one record; beyond it, a quote was surely never closed
BOM = b"\xef\xbb\xbf"
T = TypeVar("T")
Note = Callable[[int], None]  # bytes of the file that are done


def read(
    path: Path,
    *,
    schema: Mapping[str, str] | None = None,
    separator: str | None = None,
    decimal: str = ".",
    missing: Collection[str] = _columns.MISSING,
) -> Table:
    """The table in a CSV or TSV file.

    Args:
        schema: column to kind; enforced. The kinds of other columns are found: numeric, boolean
            (true, false, yes, no), date (ISO), else categorical; nothing but missing is numeric.
        separator: by default a tab for ``.tsv`` and ``.tab``, a tab for ``.txt`` with one in its
            header, else a comma.
        decimal: the decimal sign of numbers, a point or a comma; a number with the other one is an error.
        missing: texts that mean "nothing there"; a number is meant however it is written.

    Raises:
        DataError: names row, line and column of what is wrong, and what kind of value is there.
    """
    cells, place = read_text(path, separator, decimal=decimal)
    declared = _columns.kinds(schema, [series.name for series in cells], path.name)
    unknown = [series for series in cells if series.name not in declared]
    for series, seen in zip(unknown, _columns.look(unknown, missing), strict=True):
        declared[series.name] = _columns.decide(series.name, seen, place)
    return Table({s.name: _columns.from_text(s, declared[s.name], missing, place) for s in cells})


def read_text(
    path: Path, separator: str | None = None, unique: bool = True, decimal: str = "."
) -> tuple[list[pl.Series], _columns.CellPlace]:
    """All cells as text, by column, and what messages need. Unless ``unique``, two columns may have
    one name."""
    data = path.read_bytes()
    _records.check_text(data, path.name)
    data = data.removeprefix(BOM)
    names, mark, body = _header(data, path, separator, unique)
    line = data.count(b"\n", 0, body) + 1
    rows = _Piece(data[body:], line, body, final=True).rows(len(names))
    _check_decimal(decimal, mark)
    frame, records = _parse(rows, len(names), mark, path.name, line=line, decimal=decimal)
    cells = [series.alias(name) for name, series in zip(names, frame, strict=True)]
    return cells, _columns.CellPlace(path.name, records.where)


def stream(
    path: Path,
    columns: Sequence[str] | None,
    rows_per_batch: int,
    *,
    schema: Mapping[str, str] | None = None,
    separator: str | None = None,
    decimal: str = ".",
    missing: Collection[str] = _columns.MISSING,
) -> Iterator[Table]:
    """See :func:`hanse.readers.stream`. Columns that the schema does not name cost one more pass
    over the file, to find their kinds."""
    text = _pieces(path, separator, decimal)
    wanted = _wanted(path, text, columns)
    declared = _columns.kinds(schema, text.names, path.name)
    unknown = [name for name in wanted if name not in declared]
    if unknown:
        found, _ = survey(path, schema=schema, separator=separator, decimal=decimal, missing=missing, only=unknown)
        declared |= {name: ColumnKind(found[name]) for name in unknown}
    row = None
    for frame, records in _strict(text, path):
        for first in range(0, frame.height, rows_per_batch):
            row = records.row + first
            place = _columns.CellPlace(path.name, lambda i, r=records, at=first: r.where(at + i))  # type: ignore[misc]
            yield _batch(frame.slice(first, rows_per_batch), wanted, declared, missing, place)
    if row is None:
        import polars as pl

        nothing = pl.DataFrame(schema=dict.fromkeys(text.names, pl.String))
        yield _batch(nothing, wanted, declared, missing, _columns.CellPlace(path.name, str))


def survey(
    path: Path,
    *,
    schema: Mapping[str, str] | None = None,
    separator: str | None = None,
    decimal: str = ".",
    missing: Collection[str] = _columns.MISSING,
    only: Sequence[str] | None = None,
    note: Note = lambda done: None,
) -> tuple[dict[str, str], int]:
    """See :func:`hanse.readers.survey`. ``only``: the columns to look at. One strict pass in bounded memory."""
    text = _pieces(path, separator, decimal)
    declared = _columns.kinds(schema, text.names, path.name)
    wanted = _wanted(path, text, only)
    unknown = [name for name in wanted if name not in declared]
    seen = dict.fromkeys(unknown, _columns.Seen())
    lines: dict[int, str] = {}  # where the first odd value of a column stands
    rows = 0
    for frame, records in _ahead(_strict(text, path)):
        looked = _columns.look(_columns.chosen(frame, unknown), missing, records.row, list(seen.values()))
        for name, now in zip(unknown, looked, strict=True):
            if seen[name].other is None and now.other is not None:
                lines[now.other[0]] = records.where(now.other[0] - records.row)
            seen[name] += now
        for name in wanted:
            if name in declared and declared[name] is not ColumnKind.CATEGORICAL:  # any text is a label
                _columns.from_text(frame[name], declared[name], missing, _columns.CellPlace(path.name, records.where))
        rows += frame.height
        note(records.offset + len(records.data))
    if not rows:  # what may not be declared may not be declared of an empty file
        import polars as pl

        nothing = pl.DataFrame(schema=dict.fromkeys(text.names, pl.String))
        _batch(nothing, [n for n in wanted if n in declared], declared, missing, _columns.CellPlace(path.name, str))
    place = _columns.CellPlace(path.name, lines.__getitem__)
    found = {name: _columns.decide(name, seen[name], place) for name in unknown}
    return {name: str(declared.get(name) or found[name]) for name in wanted}, rows


def typed(
    path: Path,
    columns: Sequence[str],
    rows_per_batch: int,
    schema: Mapping[str, str],
    *,
    separator: str | None = None,
    decimal: str = ".",
    missing: Collection[str] = _columns.MISSING,
) -> Iterator[Table]:
    """Tables as :func:`stream` gives them, of a file that :func:`survey` found fit, much faster: numbers are read as
    numbers. A piece with a number that this does not understand (with spaces around it) is read the strict way."""
    text = _pieces(path, separator, decimal)
    wanted = _wanted(path, text, columns)
    kinds = _columns.kinds(schema, text.names, path.name)
    place = _columns.CellPlace(path.name, str)
    for frame in _ahead(_quick(piece, text, wanted, kinds, missing, path.name) for piece in text):
        for part in frame.iter_slices(rows_per_batch):
            cells = _columns.chosen(part, wanted)
            found = _columns.straight(cells, [kinds[n] for n in wanted], missing, place)
            yield Table(dict(zip(wanted, found, strict=True)))
            del part, cells, found
        del frame  # it goes before the next piece is waited for


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made while the caller looks at the one before: two at most are in memory."""
    with ThreadPoolExecutor(1) as maker:
        following = maker.submit(next, items, None)
        while (item := following.result()) is not None:
            following = maker.submit(next, items, None)
            yield item
            del item


def _quick(
    piece: _Piece,
    text: _Pieces,
    wanted: Sequence[str],
    kinds: Mapping[str, ColumnKind],
    missing: Collection[str],
    file: str,
) -> pl.DataFrame:
    import polars as pl

    data = piece.rows(len(text.names))
    cells = [pl.Float64 if kinds[n] is ColumnKind.NUMERIC else pl.String for n in text.names]
    schema = {str(i): cell for i, cell in enumerate(cells)}
    place = {name: i for i, name in enumerate(text.names)}
    chosen = sorted({place[n] for n in wanted})
    try:
        if not data:
            return pl.DataFrame(schema={n: cells[place[n]] for n in wanted})
        frame = pl.read_csv(
            data,
            has_header=False,
            separator=text.mark,
            schema=schema,
            null_values=list(missing),
            decimal_comma=text.decimal == ",",
            columns=chosen if len(chosen) < len(cells) else None,  # naming all takes as long as reading them
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        frame, _ = _parse(data, len(text.names), text.mark, file, line=piece.line, decimal=text.decimal)
        frame = pl.DataFrame(_columns.chosen(frame, list(map(str, chosen))))
    frame.columns = [text.names[int(number)] for number in frame.columns]  # an expression for each takes longer
    return frame


def _batch(
    frame: pl.DataFrame,
    wanted: Sequence[str],
    declared: Mapping[str, ColumnKind],
    missing: Collection[str],
    place: _columns.CellPlace,
) -> Table:
    return Table({n: _columns.from_text(frame[n], declared[n], missing, place) for n in wanted})


def _wanted(path: Path, text: _Pieces, columns: Sequence[str] | None) -> list[str]:
    wanted = list(text.names if columns is None else columns)
    known = set(text.names)  # there may be tens of thousands
    for name in wanted:
        if name not in known:
            raise DataError(f"{path.name}: there is no column {name!r}")
    return wanted


@dataclass(frozen=True, slots=True)
class _Piece:
    """Whole records of a file; the first begins on ``line``, at byte ``offset``. ``final``: the last ones."""

    data: bytes
    line: int
    offset: int
    final: bool

    def rows(self, width: int) -> bytes:
        """Without the empty lines at the end of the file; with one column an empty line is a missing value."""
        return self.data.rstrip(b"\r\n") if self.final and width > 1 else self.data


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A file's column names and separator; iterated, its rows in pieces of about ``CHUNK`` bytes, larger ones where
    there are very many columns, cut between records."""

    path: Path
    names: list[str]
    mark: str
    line: int
    offset: int
    decimal: str = "."

    def __iter__(self) -> Iterator[_Piece]:
        line, offset = self.line, self.offset
        rest, size = b"", CHUNK * min(1 + len(self.names) // WIDE, MOST)
        with self.path.open("rb") as file:
            file.seek(offset)
            while True:
                more = file.read(size)
                data = rest + more
                _not_endless(rest, self.path, line)
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
                    yield _Piece(data, line, offset, not more)
                    line, offset = line + data.count(b"\n"), offset + len(data)
                if not more:
                    return


def _pieces(path: Path, separator: str | None, decimal: str) -> _Pieces:
    head = b""
    with path.open("rb") as file:
        while (end := _records.first_record(head)) is None and (more := file.read(1 << 16)):
            head += more
            _not_endless(head, path, 1)
    _records.check_text(head[: len(head) if end is None else end + 1], path.name)
    bom = len(BOM) if head.startswith(BOM) else 0
    names, mark, body = _header(head[bom:], path, separator)
    _check_decimal(decimal, mark)
    return _Pieces(path, names, mark, head.count(b"\n", 0, bom + body) + 1, bom + body, decimal)


def _check_decimal(decimal: str, mark: str) -> None:
    if decimal not in (".", ","):
        raise ConfigError(f"decimal {decimal!r}; expected '.' or ','")
    if decimal == mark:
        raise ConfigError(
            f"cells are separated by {mark!r}, so that is no decimal sign; give the separator, such as ';'"
        )


def _strict(text: _Pieces, path: Path) -> Iterator[tuple[pl.DataFrame, _records.Records]]:
    """The rows of each piece as text, their shape checked."""
    row = 0
    for piece in text:
        _records.check_text(piece.data, path.name, piece.line, piece.offset)
        data = piece.rows(len(text.names))
        width = len(text.names)
        frame, records = _parse(data, width, text.mark, path.name, line=piece.line, row=row, decimal=text.decimal)
        frame.columns = text.names
        yield frame, dataclasses.replace(records, offset=piece.offset)
        row += frame.height


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
    data: bytes, width: int, mark: str, file: str, *, line: int, row: int = 0, decimal: str = "."
) -> tuple[pl.DataFrame, _records.Records]:
    """Rows (without a header) as text; the columns are called by their number."""
    import polars as pl

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
    return (frame if decimal == "." else _with_points(frame, file, records)), records


def _with_points(frame: pl.DataFrame, file: str, records: _records.Records) -> pl.DataFrame:
    """Numbers with decimal commas, with points. 1.234 is refused: it may be meant as a thousand or as one."""
    import polars as pl

    for number, series in enumerate(frame, 1):
        found = series.str.contains(r"^\s*[+-]?\d+\.\d+\s*$").arg_true()
        if len(found):
            raise DataError(
                f"{file}: {records.where(int(found[0]))}, column {number}: found a number with a decimal point, in a "
                "file of decimal commas; write it without, or with a comma"
            )
    return frame.with_columns(pl.all().str.replace(r"^(\s*[+-]?\d+),(\d+(?:[eE][+-]?\d+)?\s*)$", "${1}.${2}"))
