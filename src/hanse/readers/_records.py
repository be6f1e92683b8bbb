"""Where the records of a CSV text are, found in one vectorised pass.

The parser is fast because it forgives: it fills short rows with nulls and renames twin columns. So the
shape is checked here first: each record has the header's number of fields, quotes are as RFC 4180 has
them, and a row number can be turned into a line number.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from dataclasses import dataclass

import numpy as np

from hanse.errors import DataError
from hanse.table import Array

QUOTE, NEWLINE, RETURN = 34, 10, 13


@dataclass(frozen=True, slots=True)
class Records:
    """Records of a text that begins at line ``line`` of its file, byte ``offset``, data row ``row`` (0-based).

    ``ends``: (n,) offset just after each record's content (its line end, or the end of the text).
    """

    data: bytes
    ends: Array
    line: int = 1
    row: int = 0
    offset: int = 0

    def __len__(self) -> int:
        return len(self.ends)

    def start(self, record: int) -> int:
        return 0 if record == 0 else int(self.ends[record - 1]) + 1

    def line_of(self, offset: int) -> int:
        return self.line + self.data.count(b"\n", 0, offset)

    def where(self, record: int) -> str:
        """``row 3 (line 4)``: data rows count from 1, lines from 1 with the header."""
        return f"row {self.row + record + 1} (line {self.line_of(self.start(record))})"


def check_text(data: bytes, file: str, line: int = 1, offset: int = 0) -> None:
    """Raises ``DataError`` with byte and line where ``data`` is not UTF-8 text."""

    def line_at(at: int) -> int:
        return line + data.count(b"\n", 0, at)

    if data.isascii():
        bad = -1
    else:
        decoder, size, bad = codecs.getincrementaldecoder("utf-8")(), 1 << 20, -1
        for at in range(0, len(data), size):
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(data[at : at + size], final=at + size >= len(data))
            except UnicodeDecodeError as error:
                bad = at - held + error.start
                break
    if bad >= 0:
        utf16 = offset == 0 and line == 1 and data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        hint = "it looks like UTF-16; " if utf16 else ""
        raise DataError(
            f"{file}: byte {offset + bad + 1} (line {line_at(bad)}) is not UTF-8; {hint}save the file as UTF-8"
        )
    if (zero := data.find(b"\0")) >= 0:
        raise DataError(f"{file}: byte {offset + zero + 1} (line {line_at(zero)}) is zero; this is not a text file")


def first_record(data: bytes) -> int | None:
    """Offset of the line end of the first record, None where there is none yet."""
    start, quotes = 0, 0
    while (end := data.find(b"\n", start)) >= 0:
        quotes += data.count(b'"', start, end)
        if quotes % 2 == 0:
            return end
        start = end + 1
    return None


def last_record(data: bytes) -> int:
    """Offset after the last line end outside quotes, 0 where there is none."""
    if b'"' not in data:
        return data.rfind(b"\n") + 1
    values = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(values == NEWLINE)
    outside = newlines[np.searchsorted(np.flatnonzero(values == QUOTE), newlines) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def header(text: str, separator: str, file: str, unique: bool = True) -> list[str]:
    """Column names of a header record. Raises where one is empty or, if ``unique``, stands twice."""
    _check_quotes(text.encode(), separator, file)
    try:
        parsed = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [])
    except csv.Error:
        raise DataError(f"{file}: line 1 cannot be read as column names; is this a CSV file?") from None
    names = [name.strip() for name in parsed]
    if not any(names):
        raise DataError(f"{file}: line 1 is empty; expected the column names")
    other = next((c for c in ";\t,|" if c != separator and c in text), None)
    if len(names) == 1 and other:
        raise DataError(
            f"{file}: one column only, whose name holds {other!r}; "
            f"if the file is separated by that, say so (hanse node dataset add --separator {other!r})"
        )
    for name, count in Counter(names).items():
        if name and (count == 1 or not unique):
            continue
        places = ", ".join(str(i + 1) for i, n in enumerate(names) if n == name)
        if not name:
            raise DataError(f"{file}: column {places} has no name in the header; give it one")
        raise DataError(f"{file}: {count} columns have the name {name!r} ({places}); rename all but one")
    return names


def find(data: bytes, width: int, separator: str, file: str, *, line: int = 1, row: int = 0) -> Records:
    """The records of ``data`` (no header), each checked to have ``width`` fields.

    Raises:
        DataError: a ragged row, or a quote that is not closed or stands within a field.
    """
    values = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(values == NEWLINE)
    separators = np.flatnonzero(values == ord(separator))
    if b'"' in data:
        quotes = _check_quotes(data, separator, file, line)
        newlines = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
        separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
    if len(data) and (not len(newlines) or newlines[-1] != len(data) - 1):
        newlines = np.append(newlines, len(data))
    records = Records(data, newlines, line, row)
    found = np.diff(np.searchsorted(separators, newlines), prepend=0) + 1
    ragged = np.flatnonzero(found != width)
    if len(ragged):
        record = int(ragged[0])
        start, end = records.start(record), int(newlines[record])
        fields = f"{found[record]} of {width} fields" if data[start:end].strip() else "nothing (an empty line)"
        raise DataError(f"{file}: {records.where(record)} has {fields}; each row must have those of the header")
    return records


def _check_quotes(data: bytes, separator: str, file: str, line: int = 1) -> Array:
    """Offsets of the quotes: they open at the start of a field, close at its end, and are doubled
    within."""

    def fail(offset: int, says: str) -> None:
        at = line + data.count(b"\n", 0, offset)
        raise DataError(f"{file}: line {at}: {says}")

    values = np.frombuffer(data, np.uint8)
    quotes, mark = np.flatnonzero(values == QUOTE), ord(separator)
    if not len(quotes):
        return quotes
    size = len(values)
    if len(quotes) % 2:
        fail(int(quotes[-1]), "a quote opens a field and is never closed; close it")
    opening, closing = quotes[0::2], quotes[1::2]
    before = values[np.maximum(opening - 1, 0)]
    fine = (opening == 0) | (before == mark) | (before == NEWLINE) | (before == QUOTE)
    if not fine.all():
        fail(int(opening[~fine][0]), "a quote within a field that is not quoted; quote the field")
    after = values[np.minimum(closing + 1, size - 1)]
    fine = (closing == size - 1) | np.isin(after, (mark, NEWLINE, RETURN, QUOTE))
    if not fine.all():
        fail(int(closing[~fine][0]), "text after a closing quote; expected a separator or line end")
    return quotes
