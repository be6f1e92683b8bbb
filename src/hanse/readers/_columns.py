"""From a Polars column to a :class:`hanse.table.Column`: which kind it is, and strictly as that kind.

Two steps, so that a file larger than memory gets the same kinds as one that is read whole:
:func:`look` counts (counts of batches add up), :func:`decide` judges the counts.

Columns of few rows are looked at together, one after the other in one long column: of a table of tens of thousands,
going from one to the next took several times as long as looking at them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.table import Array, Column, ColumnKind

if TYPE_CHECKING:
    import polars as pl

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "--")
# Only true and false are boolean by themselves; "yes" and "no" stay the words that people use for labels, as they do
# in a data scientist's frame. Declared boolean, a column may have them, and 1 and 0.
TRUTH = {"true": True, "false": False}
DECLARED = {**TRUTH, "yes": True, "no": False, "1": True, "0": False}
CELLS = 1 << 16  # of columns that are looked at together
MOSTLY = 0.9  # from this share of numbers on, a column of numbers and text is taken for a mistake

Where = Callable[[int], str]  # 0-based row -> "row 3 (line 4)"


@dataclass(frozen=True, slots=True)
class CellPlace:
    """For messages: the file's name, and where in it a row stands."""

    file: str
    where: Where

    def error(self, row: int, column: str, says: str) -> DataError:
        return DataError(f"{self.file}: {self.where(row)}, column {column!r}: {says}")


_COMMA = r"^[+-]?\d{1,12},\d+$"
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}"
_WANTED = {
    ColumnKind.NUMERIC: "a number",
    ColumnKind.BOOLEAN: "true or false",
    ColumnKind.DATE: "a date such as 2024-01-31",
    ColumnKind.OPEN: "nothing, as when the dataset was added",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """Counts of one text column: values that are there, and how many of them read as what.
    ``commas``: numbers but for their decimal comma. ``other`` is the first row that is not a number, and what it is."""

    present: int = 0
    numbers: int = 0
    commas: int = 0
    booleans: int = 0
    dates: int = 0
    other: tuple[int, str] | None = None

    def __add__(self, later: Seen) -> Seen:
        return Seen(
            self.present + later.present,
            self.numbers + later.numbers,
            self.commas + later.commas,
            self.booleans + later.booleans,
            self.dates + later.dates,
            self.other or later.other,
        )


def kinds(schema: Mapping[str, str] | None, names: Collection[str], file: str) -> dict[str, ColumnKind]:
    """The declared kinds. Raises where the schema names an unknown kind or a column that is not there."""
    found: dict[str, ColumnKind] = {}
    there, known = set(names), set(ColumnKind)
    for name, kind in (schema or {}).items():
        if kind not in known:
            raise ConfigError(f"column {name!r}: there is no kind {kind!r}; known: {', '.join(ColumnKind)}")
        if name not in there:
            raise DataError(f"{file}: column {name!r} is in the schema but not in the file")
        found[name] = ColumnKind(kind)
    return found


def chosen(frame: pl.DataFrame, names: Sequence[str]) -> list[pl.Series]:
    """These columns, in this order: of tens of thousands, much faster than one by one, or by expressions."""
    return frame[list(names)].get_columns() if names else []  # of no names Polars makes no rows of all columns


def clean(series: pl.Series, missing: Collection[str]) -> pl.Series:
    """Text without outer spaces, null where it says that nothing is there."""
    text = series.str.strip_chars()
    gone = text.is_in(list(missing))
    return text.set(gone.fill_null(False), None) if gone.any() else text


def without_codes(values: Array, missing: Collection[str]) -> Array:
    """The numbers, NaN where they are one of the words that mean nothing is there: -9 also where it is written -9.0."""
    if not (codes := _codes(missing)):
        return values
    coded = np.isin(values, codes)
    return np.where(coded, np.nan, values) if coded.any() else values


def _codes(missing: Collection[str]) -> list[float]:
    found: list[float] = []
    for word in missing:
        try:
            found.append(float(word))
        except ValueError:
            continue
    return [near for code in found if np.isfinite(code) for near in {code, float(np.float32(code))}]


def look(
    columns: Sequence[pl.Series], missing: Collection[str], first_row: int = 0, before: Sequence[Seen] = ()
) -> list[Seen]:
    """Counts of each of some text columns of as many rows; ``first_row`` is the row number of their first values. What
    the rows ``before`` have shown of a column not to be boolean (or dates) throughout need not be looked at for it
    again: :func:`decide` asks for all or nothing."""
    found: list[Seen] = []
    for group in _groups(columns):
        shape = (len(group), len(group[0]))
        text = _joined(group)
        numbers = _numbers(text)
        odd = (numbers.is_null() & text.is_not_null()).to_numpy().reshape(shape).any(1)
        values = without_codes(numbers.to_numpy(), missing).reshape(shape)
        present = np.count_nonzero(~np.isnan(values), axis=1)
        seen = [Seen(count, count) for count in present.tolist()]
        if places := np.flatnonzero(odd).tolist():
            earlier = [before[len(found) + place] if before else Seen() for place in places]
            texts = _look_at_text([group[place] for place in places], missing, first_row, earlier)
            for place, now in zip(places, texts, strict=True):
                seen[place] = now
        found += seen
    return found


def _look_at_text(
    group: Sequence[pl.Series], missing: Collection[str], first_row: int, before: Sequence[Seen]
) -> list[Seen]:
    shape = (len(group), len(group[0]))
    text = clean(_joined(group), missing)
    present_at = text.is_not_null()

    def counted(truths: pl.Series) -> list[int]:
        found: list[int] = np.count_nonzero(truths.to_numpy().reshape(shape), axis=1).tolist()
        return found

    numbers = _numbers(text)
    other_at = (present_at & numbers.is_null()).to_numpy().reshape(shape)
    coded = counted(numbers.is_in(_codes(missing)).fill_null(False))
    present, others = counted(present_at), np.count_nonzero(other_at, axis=1).tolist()
    booleans = dates = commas = [0] * len(group)
    if any(b.booleans == b.present for b in before):
        booleans = counted(_booleans(text, TRUTH).is_not_null())
    if any(b.dates == b.present for b in before):
        dates = counted(_days(text).is_not_null())
    if any(b.numbers + b.commas == b.present for b in before):
        commas = counted(text.str.contains(_COMMA).fill_null(False))
    rows = np.argmax(other_at, axis=1)  # of the first that is no number
    kinds = _whats(text.gather(rows + np.arange(len(group)) * shape[1]))
    return [
        Seen(n - gone, n - gone) if not k else Seen(n, n - k, c, b, d, (first_row + row, kind))
        for n, k, gone, c, b, d, row, kind in zip(
            present, others, coded, commas, booleans, dates, rows.tolist(), kinds, strict=True
        )
    ]


def decide(name: str, seen: Seen, place: CellPlace) -> ColumnKind:
    """The kind of an undeclared column; open, where it has no value that tells.

    Raises:
        DataError: all values are numbers with a decimal comma, or nearly all are numbers; the rest is more likely a
            mistake than a category.
    """
    if not seen.present:
        return ColumnKind.OPEN
    if seen.numbers == seen.present:
        return ColumnKind.NUMERIC
    if seen.booleans == seen.present:
        return ColumnKind.BOOLEAN
    if seen.dates == seen.present:
        return ColumnKind.DATE
    if seen.other is not None and seen.commas and seen.numbers + seen.commas == seen.present:
        raise place.error(
            seen.other[0],
            name,
            "found a number with a decimal comma; say so (hanse node dataset add --decimal ,), write decimal points, "
            "or declare the column categorical",
        )
    if seen.other is not None and seen.numbers >= MOSTLY * seen.present:
        row, found = seen.other
        raise place.error(
            row,
            name,
            f"found {found}, while {seen.numbers} of {seen.present} values are numbers; "
            "correct it, or declare the column categorical",
        )
    return ColumnKind.CATEGORICAL


def from_text(series: pl.Series, kind: ColumnKind, missing: Collection[str], place: CellPlace) -> Column:
    """A text column strictly as ``kind``.

    Raises:
        DataError: names the first row whose value is of another kind.
    """
    import polars as pl

    if kind is ColumnKind.IMAGE:
        raise DataError(f"{place.file}: column {series.name!r} is declared an image; only folders hold images")
    if kind is ColumnKind.NUMERIC and (quick := _plain_numbers(series)) is not None:
        return Column(kind, without_codes(quick, missing))
    text = clean(series, missing)
    if kind is ColumnKind.CATEGORICAL:
        return categorical(text)
    if kind is ColumnKind.NUMERIC:
        values = _numbers(text)
    elif kind is ColumnKind.OPEN:
        text = text.set(_numbers(text).is_in(_codes(missing)).fill_null(False), None)
        values = text.set(text.is_not_null(), None)
    elif kind is ColumnKind.DATE:
        values = _days(text)
    else:
        values = _booleans(text, DECLARED)
    wrong = (text.is_not_null() & values.is_null()).arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise place.error(
            row,
            series.name,
            f"found {what(text[row])}, expected {_WANTED[kind]}; correct it, or declare another kind for the column",
        )
    found = _floats(values.cast(pl.Float64))
    return Column(kind, without_codes(found, missing) if kind is ColumnKind.NUMERIC else found)


def categorical(text: pl.Series) -> Column:
    """Text as sorted categories and codes."""
    import polars as pl

    categories = text.drop_nulls().unique().sort().to_list()
    if not categories:
        return Column(ColumnKind.CATEGORICAL, np.full(len(text), -1, np.int32))
    codes = text.cast(pl.Enum(categories)).to_physical().cast(pl.Int32).fill_null(-1)
    return Column(ColumnKind.CATEGORICAL, codes.to_numpy().copy(), tuple(categories))


def own_kind(dtype: pl.DataType, name: str, file: str) -> ColumnKind:
    """The kind of a column of a typed file (Parquet) that is not declared. Raises ``DataError`` where there is none."""
    import polars as pl

    if dtype.is_numeric():
        return ColumnKind.NUMERIC
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return ColumnKind.CATEGORICAL
    if dtype == pl.Boolean:
        return ColumnKind.BOOLEAN
    if dtype in (pl.Date, pl.Datetime):
        return ColumnKind.DATE
    if dtype == pl.Null:
        return ColumnKind.OPEN
    raise DataError(
        f"{file}: column {name!r} is of type {dtype.base_type().__name__}, which has no kind here; "
        "expected numbers, booleans, text or dates"
    )


def from_typed(series: pl.Series, kind: ColumnKind | None, missing: Collection[str], place: CellPlace) -> Column:
    """A column of a typed file (Parquet), as what it is, or as ``kind`` where nothing is lost by it."""
    import polars as pl

    name, file = series.name, place.file
    own = own_kind(series.dtype, name, file)
    if own is ColumnKind.CATEGORICAL:
        return from_text(series.cast(pl.String), kind or own, missing, place)
    if own is ColumnKind.OPEN:
        return from_text(series.cast(pl.String), kind or own, (), place)
    if own is ColumnKind.DATE:
        days = series.cast(pl.Datetime("us")).to_physical().cast(pl.Float64) / 86_400_000_000
        column = Column(own, _floats(days))
    else:
        found = _floats(series.cast(pl.Float64))
        column = Column(own, without_codes(found, missing) if own is ColumnKind.NUMERIC else found)
    if kind in (None, own) or (own is ColumnKind.BOOLEAN and kind is ColumnKind.NUMERIC):
        return Column(kind or own, column.values)
    if kind is ColumnKind.CATEGORICAL and own is ColumnKind.NUMERIC:
        return Column.categorical(column.labels())
    if kind is ColumnKind.CATEGORICAL and own is ColumnKind.BOOLEAN:
        return categorical(series.cast(pl.String))
    if kind is ColumnKind.OPEN and column.missing.all():
        return Column.absent(kind, len(column))
    if kind is ColumnKind.BOOLEAN and own is ColumnKind.NUMERIC:
        wrong = np.flatnonzero(~np.isin(column.values, (0.0, 1.0)) & ~column.missing)
        if not len(wrong):
            return Column(kind, column.values)
        raise place.error(
            int(wrong[0]),
            name,
            "found a number other than 0 and 1, expected true or false; declare the column numeric",
        )
    raise DataError(f"{file}: column {name!r} holds {own} values, but the schema says {kind}")


def without_values(columns: Sequence[pl.Series], missing: Collection[str], place: CellPlace) -> set[str]:
    """The names of those columns of a typed file that have no value in these rows."""
    found: set[str] = set()
    numbers: dict[pl.DataType, list[pl.Series]] = {}
    for series in columns:
        if series.dtype.is_numeric():
            numbers.setdefault(series.dtype, []).append(series)
        elif from_typed(series, None, missing, place).missing.all():
            found.add(series.name)
    for alike in numbers.values():
        for group in _groups(alike):
            values = without_codes(_floats(_joined(group)), missing)
            gone = np.isnan(values).reshape(len(group), -1).all(1)
            found.update(group[place].name for place in np.flatnonzero(gone).tolist())
    return found


def straight(
    columns: Sequence[pl.Series], kinds: Sequence[ColumnKind], missing: Collection[str], place: CellPlace
) -> list[Column]:
    """Each of some columns of as many rows as :func:`from_text` or :func:`from_typed` gives it, whichever it takes;
    numbers that lie as they are wanted without a copy, if they are many."""
    import polars as pl

    plain = [
        kind is ColumnKind.NUMERIC and series.dtype == pl.Float64 for series, kind in zip(columns, kinds, strict=True)
    ]
    numbers = _rows([series for series, is_plain in zip(columns, plain, strict=True) if is_plain], missing)
    return [
        Column(kind, next(numbers)) if is_plain else from_typed(series, kind, missing, place)
        for series, kind, is_plain in zip(columns, kinds, plain, strict=True)
    ]


def _rows(columns: Sequence[pl.Series], missing: Collection[str]) -> Iterator[Array]:
    """The values of each of some columns of float64, NaN where nothing is there."""
    for group in _groups(columns):
        values = _joined(group)
        if values.null_count():
            values = values.fill_null(float("nan"))
        yield from without_codes(np.asarray(values.to_numpy()), missing).reshape(len(group), -1)


def _groups(columns: Sequence[pl.Series]) -> Iterator[Sequence[pl.Series]]:
    """Neighbours that have about ``CELLS`` values together; of many rows, each by itself."""
    size = max(1, CELLS // max(len(columns[0]), 1)) if columns else 1
    for first in range(0, len(columns), size):
        yield columns[first : first + size]


def _joined(group: Sequence[pl.Series]) -> pl.Series:
    import polars as pl

    return group[0] if len(group) == 1 else pl.concat(group)


def what(value: str | None) -> str:
    """What kind of thing a text is, for messages; never the text itself."""
    import polars as pl

    return _whats(pl.Series([value], dtype=pl.String))[0]


def _whats(values: pl.Series) -> list[str]:
    words, days = _booleans(values, DECLARED).is_not_null(), _days(values).is_not_null()
    return [
        "nothing"
        if value is None
        else "a number"
        if number
        else "a true/false word"
        if word
        else "a date"
        if day
        else "text"
        for value, number, word, day in zip(values, _numbers(values).is_not_null(), words, days, strict=True)
    ]


def _plain_numbers(series: pl.Series) -> Array | None:
    """The fast way: all cells are numbers or empty, without spaces or words for missing."""
    values = _as_numbers(series)
    return None if values is None else _floats(values)


def _as_numbers(series: pl.Series) -> pl.Series | None:
    import polars as pl

    values = series.cast(pl.Float64, strict=False)
    return values if values.null_count() == series.null_count() else None


def _numbers(text: pl.Series) -> pl.Series:
    import polars as pl

    return text.cast(pl.Float64, strict=False)


def _booleans(text: pl.Series, words: Mapping[str, bool]) -> pl.Series:
    import polars as pl

    return text.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)


def _days(text: pl.Series) -> pl.Series:
    """Days since 1970-01-01 of ISO dates and date-times; a time zone is converted to UTC."""
    import polars as pl

    dates = text.set((~text.str.contains(_DATE)).fill_null(False), None)
    days = dates.str.to_date("%Y-%m-%d", strict=False).to_physical().cast(pl.Float64)
    timed = text.str.contains(_TIME).fill_null(False)
    if timed.any():
        times = text.set(~timed, None).str.replace(" ", "T", literal=True)
        zoned = times.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", strict=False, time_unit="us")
        forms = [zoned.dt.replace_time_zone(None)] + [
            times.str.to_datetime(form, strict=False, time_unit="us")
            for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
        ]
        for form in forms:
            exact = form.to_physical().cast(pl.Float64) / 86_400_000_000
            days = days.zip_with(days.is_not_null(), exact)
    return days


def _floats(series: pl.Series) -> Array:
    """A writable float64 copy, NaN where null."""
    import polars as pl

    values = series if series.dtype == pl.Float64 else series.cast(pl.Float64)
    return np.array(values.to_numpy(), np.float64)  # null is NaN there too
